-- The ledger: what was planned and what is known to be published, per table. It follows the Iceberg tables and can be
-- rebuilt from them. All ranges are half-open, all times UTC. Safe to run again at every start.
CREATE SCHEMA IF NOT EXISTS k2_offload;

CREATE TABLE IF NOT EXISTS k2_offload.offload_watermarks (
    table_name                text PRIMARY KEY,
    last_offload_timestamp    timestamptz,              -- the watermark: every row below it is in the cold table
    last_offload_max_sequence numeric(20, 0),           -- recorded for gap reports; nothing relies on it
    last_offload_row_count    bigint,
    status                    text NOT NULL DEFAULT 'initialized'
                              CHECK (status IN ('initialized', 'running', 'success', 'failed')),
    last_run_duration_seconds double precision,
    last_successful_run       timestamptz,
    cold_table_uuid           text,                     -- the incarnation of the cold table that was followed so far
    last_snapshot_id          bigint
);

CREATE TABLE IF NOT EXISTS k2_offload.offload_windows (
    window_id    text PRIMARY KEY,                      -- spells table UUID, low and high; also in the snapshot
    table_name   text NOT NULL REFERENCES k2_offload.offload_watermarks,
    low          timestamptz NOT NULL,
    high         timestamptz NOT NULL,
    state        text NOT NULL CHECK (state IN ('open', 'committed', 'abandoned')),
    dag_run_id   text NOT NULL,                         -- the run that planned or last resumed it
    attempts     integer NOT NULL DEFAULT 1,            -- how often it was planned or resumed
    planned_rows bigint NOT NULL,
    max_sequence numeric(20, 0),
    planned_at   timestamptz NOT NULL,
    committed_at timestamptz,
    rows         bigint,
    size_bytes   bigint,
    snapshot_id  bigint,
    CHECK (low < high)
);

-- Two runs can never have two windows of one table in the air.
CREATE UNIQUE INDEX IF NOT EXISTS offload_windows_one_open ON k2_offload.offload_windows (table_name)
    WHERE state = 'open';
CREATE INDEX IF NOT EXISTS offload_windows_by_table ON k2_offload.offload_windows (table_name, planned_at DESC);
