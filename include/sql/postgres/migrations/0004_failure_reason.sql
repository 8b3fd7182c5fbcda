-- Why the status is 'failed', for k2 status: what a person would read in the log of the run. Means nothing beside any
-- other status. Only the first thousand characters, and no secrets.
ALTER TABLE k2_offload.offload_watermarks ADD COLUMN IF NOT EXISTS reason text;
