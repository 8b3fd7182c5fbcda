-- Where raw exchange messages enter, with a broker: takes the place of the script of the same name in
-- include/sql/clickhouse. RawBLOB hands each message over as it is, so the parsing stands once, in the scripts after it.
-- Broker and login come from the named collection k2_broker.
--
-- ClickHouse remembers in the broker how far it has read; a message read twice after a crash is a row in bronze twice,
-- and 80_message_offsets.sql knows which.

CREATE TABLE IF NOT EXISTS bronze_trades_binance_queue (message String)
ENGINE = Kafka(k2_broker)
SETTINGS
    kafka_topic_list = 'k2.trades.binance',
    kafka_group_name = 'k2_clickhouse_binance',
    kafka_format = 'RawBLOB';

CREATE TABLE IF NOT EXISTS bronze_trades_kraken_queue (message String)
ENGINE = Kafka(k2_broker)
SETTINGS
    kafka_topic_list = 'k2.trades.kraken',
    kafka_group_name = 'k2_clickhouse_kraken',
    kafka_format = 'RawBLOB';
