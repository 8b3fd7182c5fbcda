-- Where raw exchange messages enter: one message per row, exactly as the exchange sent it.
--
-- Engine Null keeps nothing: an insert only drives the materialized views that read from here, and the embedded feed is
-- the one that inserts. A Kafka-engine table of the same name and column drives the same views, so a deployment with a
-- broker replaces this file alone. (Its format should hand over the message untouched, as RawBLOB does.)

CREATE TABLE IF NOT EXISTS bronze_trades_binance_queue (message String) ENGINE = Null;

CREATE TABLE IF NOT EXISTS bronze_trades_kraken_queue (message String) ENGINE = Null;
