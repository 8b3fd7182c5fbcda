-- The windows of a day are found among those of years, which are never deleted. They are nearly in the order of these times.
CREATE INDEX offload_windows_by_time ON k2_offload.offload_windows USING brin (planned_at, committed_at)
    WITH (pages_per_range = 16);
