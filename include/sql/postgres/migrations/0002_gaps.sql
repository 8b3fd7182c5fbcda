-- What a table has missed, on record for ever: rows that expired or went before they were moved, and rows that were
-- skipped on purpose. Ranges are half-open, on the table's timestamp column.
CREATE TABLE k2_offload.offload_gaps (
    gap_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name  text NOT NULL REFERENCES k2_offload.offload_watermarks,
    low         timestamptz NOT NULL,
    high        timestamptz NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('expired', 'fewer rows', 'skipped')),
    rows        bigint,                                 -- NULL where nobody can know
    accepted_at timestamptz NOT NULL,
    CHECK (low < high)
);
CREATE INDEX offload_gaps_by_table ON k2_offload.offload_gaps (table_name, low);

-- When the source was last seen to hold no row that was not moved; and the time below which no row waits to be moved:
-- none was there at the last look, or a person has accepted that they are gone. Both are forgotten when the cold table
-- goes back to an earlier watermark. What version 0.1.0 may have missed, nobody can know: it counts as having looked.
ALTER TABLE k2_offload.offload_watermarks ADD COLUMN looked_at timestamptz;
ALTER TABLE k2_offload.offload_watermarks ADD COLUMN cleared_until timestamptz;
UPDATE k2_offload.offload_watermarks SET looked_at = now() WHERE last_offload_timestamp IS NOT NULL;
