-- The oldest timestamp of a window's rows when it was planned: a window of candles begins long before its first row, and its
-- lag would be the length of a candle.
ALTER TABLE k2_offload.offload_windows ADD COLUMN first_row timestamptz;
