-- Messages that are not trades (heartbeats, subscription answers, other events) or that cannot be kept exactly. They
-- must neither break the insert they arrive in nor vanish.

CREATE TABLE IF NOT EXISTS rejected_messages
(
    rejected_at DateTime64(6, 'UTC'),
    exchange LowCardinality(String),
    reason LowCardinality(String),
    raw_message String CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(rejected_at)
ORDER BY (exchange, reason, rejected_at)
TTL toDateTime(rejected_at) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS rejected_messages_mv TO rejected_messages AS
SELECT
    ingested_at AS rejected_at,
    exchange,
    reject_reason AS reason,
    raw_message
FROM parsed_trades
WHERE reject_reason != '';
