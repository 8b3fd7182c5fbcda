-- Bronze: each trade as its exchange names it, beside the message it came in.
--
-- Every message is a row, a repeated one too: bronze records what arrived and does not judge.
-- Partitions are whole days, so that the TTL drops parts instead of rewriting them. The sorting key is the one readers
-- filter by and the one the offload exports in: reading in key order needs no sort.

CREATE TABLE IF NOT EXISTS bronze_trades_binance
(
    exchange_timestamp DateTime64(6, 'UTC'),
    sequence_number UInt64,
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    price Decimal(38, 18),
    quantity Decimal(38, 18),
    side LowCardinality(String) COMMENT 'of the taker: buy or sell',
    trade_id String,
    ingested_at DateTime64(6, 'UTC'),
    raw_message String CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(exchange_timestamp)
ORDER BY (symbol, exchange_timestamp, sequence_number)
TTL toDateTime(exchange_timestamp) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

-- The same columns, engine, keys and TTL.
CREATE TABLE IF NOT EXISTS bronze_trades_kraken AS bronze_trades_binance;

CREATE MATERIALIZED VIEW IF NOT EXISTS bronze_trades_binance_mv TO bronze_trades_binance AS
SELECT * EXCEPT (parse_error, reject_reason)
FROM parsed_trades
WHERE exchange = 'binance' AND reject_reason = '';

CREATE MATERIALIZED VIEW IF NOT EXISTS bronze_trades_kraken_mv TO bronze_trades_kraken AS
SELECT * EXCEPT (parse_error, reject_reason)
FROM parsed_trades
WHERE exchange = 'kraken' AND reject_reason = '';
