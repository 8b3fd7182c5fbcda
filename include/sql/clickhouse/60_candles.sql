-- Candles of all six intervals, in a form that merges: each insert adds its part of a candle, and the parts of a candle
-- are combined by min, max and sum, for which neither the order nor the number of inserts matters.
--
-- Read them through ohlcv and the six views on it, which combine what background merges have not combined yet.

CREATE TABLE IF NOT EXISTS candles
(
    interval_seconds UInt32,
    window_start DateTime64(6, 'UTC'),
    window_end DateTime64(6, 'UTC') COMMENT 'exclusive',
    exchange LowCardinality(String),
    symbol LowCardinality(String),
    -- The price comes last in the order of trades, so that even trades alike in all else leave no choice to chance.
    first_trade SimpleAggregateFunction(
        min,
        Tuple(exchange_timestamp DateTime64(6, 'UTC'), sequence_number UInt64, trade_id String, price Decimal(38, 18))
    ),
    last_trade SimpleAggregateFunction(
        max,
        Tuple(exchange_timestamp DateTime64(6, 'UTC'), sequence_number UInt64, trade_id String, price Decimal(38, 18))
    ),
    high SimpleAggregateFunction(max, Decimal(38, 18)),
    low SimpleAggregateFunction(min, Decimal(38, 18)),
    volume SimpleAggregateFunction(sum, Decimal(38, 18)),
    quote_volume SimpleAggregateFunction(sum, Decimal(38, 18)),
    trade_count SimpleAggregateFunction(sum, UInt64)
)
ENGINE = AggregatingMergeTree
-- By the day a window starts on. ClickHouse keeps, for every part, the range of each column named in this key, and skips
-- parts by it: window_end is named because the offload reads by it, window_start because charts do.
PARTITION BY toDate(least(window_start, window_end))
ORDER BY (interval_seconds, window_start, window_end, exchange, symbol)
TTL toDateTime(window_end) + INTERVAL 7 DAY
SETTINGS ttl_only_drop_parts = 1;

-- Trades are combined by minute first, then every minute goes into the candle of each interval it lies in.
CREATE MATERIALIZED VIEW IF NOT EXISTS candles_mv TO candles AS
SELECT
    interval_seconds,
    toDateTime64(intDiv(minute_start_seconds, interval_seconds) * interval_seconds, 6, 'UTC') AS window_start,
    window_start + toIntervalSecond(interval_seconds) AS window_end,
    exchange,
    symbol,
    first_trade,
    last_trade,
    high,
    low,
    volume,
    quote_volume,
    trade_count
FROM
(
    SELECT
        toUnixTimestamp(toStartOfMinute(exchange_timestamp)) AS minute_start_seconds,
        exchange,
        symbol,
        min((exchange_timestamp, sequence_number, trade_id, price)) AS first_trade,
        max((exchange_timestamp, sequence_number, trade_id, price)) AS last_trade,
        max(price) AS high,
        min(price) AS low,
        sum(quantity) AS volume,
        sum(new_trades.quote_volume) AS quote_volume,
        count() AS trade_count
    FROM new_trades
    GROUP BY minute_start_seconds, exchange, symbol
)
ARRAY JOIN [60, 300, 900, 1800, 3600, 86400]::Array(UInt32) AS interval_seconds;
