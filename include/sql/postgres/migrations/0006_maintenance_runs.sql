-- What each run of maintenance did to a table, or would have done. Rows are only added.
CREATE TABLE k2_offload.maintenance_runs (
    run_id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    table_name        text NOT NULL,
    ended_at          timestamptz NOT NULL,
    dry_run           boolean NOT NULL,
    files_before      bigint NOT NULL,                  -- data files that readers open
    files_after       bigint NOT NULL,
    bytes_before      bigint NOT NULL,
    bytes_after       bigint NOT NULL,
    rewritten_days    bigint NOT NULL,
    expired_snapshots bigint NOT NULL,
    snapshots_after   bigint NOT NULL,
    orphans           bigint NOT NULL,                  -- removed files that no snapshot named
    orphan_bytes      bigint NOT NULL,
    seconds           double precision NOT NULL,
    problem           text                              -- NULL if all went well
);
CREATE INDEX maintenance_runs_by_table ON k2_offload.maintenance_runs (table_name, ended_at);
