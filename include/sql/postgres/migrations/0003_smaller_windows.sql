-- How often an open window has failed; one that takes the place of a larger one begins with one failure. And how many
-- rows the table's next windows may have since then; NULL: as many as the table file says.
ALTER TABLE k2_offload.offload_windows ADD COLUMN failures integer NOT NULL DEFAULT 0;
ALTER TABLE k2_offload.offload_watermarks ADD COLUMN row_limit bigint;
