-- What has arrived of one feed: rows in bronze and rows rejected, ingested from since_micros on.
-- The bounds on exchange_timestamp, both inclusive, spare ClickHouse the other days' partitions.

SELECT
    (
        SELECT count()
        FROM merge(currentDatabase(), '^bronze_trades_(binance|kraken)$')
        WHERE exchange IN %(exchanges)s
            AND symbol IN %(symbols)s
            AND exchange_timestamp >= fromUnixTimestamp64Micro(%(first_micros)s)
            AND exchange_timestamp <= fromUnixTimestamp64Micro(%(last_micros)s)
            AND ingested_at >= fromUnixTimestamp64Micro(%(since_micros)s)
    ) AS bronze_rows,
    (
        SELECT count()
        FROM rejected_messages
        WHERE exchange IN %(exchanges)s AND rejected_at >= fromUnixTimestamp64Micro(%(since_micros)s)
    ) AS rejected_rows
