-- Candles as they are read: one row per interval, window, exchange and symbol.
-- Windows are half-open: [window_start, window_end).
--
-- The view groups by the stored window_start and window_end, unchanged: so filters on them reach the candles table
-- itself and prune its partitions.

CREATE VIEW IF NOT EXISTS ohlcv AS
SELECT
    interval_seconds,
    window_start,
    window_end,
    exchange,
    symbol,
    min(first_trade).price AS open,
    -- Cast: over these columns max and min would keep the aggregate-function type.
    max(candles.high)::Decimal(38, 18) AS high,
    min(candles.low)::Decimal(38, 18) AS low,
    max(last_trade).price AS close,
    sum(candles.volume) AS volume,
    sum(candles.quote_volume) AS quote_volume,
    sum(candles.trade_count) AS trade_count
FROM candles
GROUP BY interval_seconds, window_start, window_end, exchange, symbol;

CREATE VIEW IF NOT EXISTS ohlcv_1m AS SELECT * EXCEPT (interval_seconds) FROM ohlcv WHERE interval_seconds = 60;

CREATE VIEW IF NOT EXISTS ohlcv_5m AS SELECT * EXCEPT (interval_seconds) FROM ohlcv WHERE interval_seconds = 300;

CREATE VIEW IF NOT EXISTS ohlcv_15m AS SELECT * EXCEPT (interval_seconds) FROM ohlcv WHERE interval_seconds = 900;

CREATE VIEW IF NOT EXISTS ohlcv_30m AS SELECT * EXCEPT (interval_seconds) FROM ohlcv WHERE interval_seconds = 1800;

CREATE VIEW IF NOT EXISTS ohlcv_1h AS SELECT * EXCEPT (interval_seconds) FROM ohlcv WHERE interval_seconds = 3600;

CREATE VIEW IF NOT EXISTS ohlcv_1d AS SELECT * EXCEPT (interval_seconds) FROM ohlcv WHERE interval_seconds = 86400;
