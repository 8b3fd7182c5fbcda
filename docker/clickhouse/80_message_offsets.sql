-- Which messages of the broker have arrived: one row for each delivery, so a message that was delivered twice has two.
-- `k2 verify --offsets` looks for gaps and repetitions here. An offset costs a few bytes: bronze keeps its ten columns,
-- and message_hash finds a message's rows there.
--
-- first_trade_at is the earliest trade that the message seems to hold, NULL where there is none: only as long as the TTL
-- keeps that trade must bronze have it.

CREATE TABLE IF NOT EXISTS message_offsets
(
    bronze_table LowCardinality(String) COMMENT 'where its rows belong',
    topic LowCardinality(String),
    partition UInt32 CODEC(ZSTD(1)),
    offset Int64 CODEC(Delta, ZSTD(1)),
    received_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    first_trade_at Nullable(DateTime64(6, 'UTC')) CODEC(ZSTD(1)),
    message_hash UInt64 CODEC(NONE)
)
ENGINE = MergeTree
PARTITION BY toDate(received_at)
ORDER BY (topic, partition, offset)
TTL toDateTime(received_at) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS message_offsets_binance_mv TO message_offsets AS
SELECT
    'bronze_trades_binance' AS bronze_table,
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    now64(6, 'UTC') AS received_at,
    fromUnixTimestamp64Micro(toInt64OrNull(extract(message, '"T":\\s*([0-9]{1,14})[,}\\s]')) * 1000, 'UTC')
        AS first_trade_at,
    sipHash64(message) AS message_hash
FROM bronze_trades_binance_queue;

CREATE MATERIALIZED VIEW IF NOT EXISTS message_offsets_kraken_mv TO message_offsets AS
WITH arrayFilter(time -> time > 0, arrayMap(
    trade -> toInt64(1000000 * toDecimal128OrZero(
        extract(JSONExtractArrayRaw(trade)[3], '^"([0-9]{1,10}(?:\\.[0-9]{1,6})?)"$'), 6
    )),
    JSONExtractArrayRaw(JSONExtractArrayRaw(message)[2])
)) AS times
SELECT
    'bronze_trades_kraken' AS bronze_table,
    _topic AS topic,
    _partition AS partition,
    _offset AS offset,
    now64(6, 'UTC') AS received_at,
    if(empty(times), NULL, fromUnixTimestamp64Micro(arrayMin(times), 'UTC')) AS first_trade_at,
    sipHash64(message) AS message_hash
FROM bronze_trades_kraken_queue;

-- What was rejected, and where in the broker it stands.
CREATE VIEW IF NOT EXISTS rejected_message_offsets AS
SELECT DISTINCT rejected.rejected_at, rejected.exchange, rejected.reason, rejected.raw_message, topic, partition, offset
FROM rejected_messages AS rejected
INNER JOIN message_offsets ON message_hash = sipHash64(rejected.raw_message);
