-- The ledger's statements, by name. Parameters as the Postgres drivers write them: %(name)s.

-- name: has_schema_versions
SELECT to_regclass('k2_offload.schema_versions') IS NOT NULL;

-- name: has_tables
SELECT to_regclass('k2_offload.offload_watermarks') IS NOT NULL;

-- name: lock_schema
SELECT pg_advisory_xact_lock(hashtext('k2_offload.schema'));

-- name: create_schema
CREATE SCHEMA IF NOT EXISTS k2_offload;
CREATE TABLE IF NOT EXISTS k2_offload.schema_versions (
    version    integer PRIMARY KEY,                     -- the number that a file of migrations/ begins with
    applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: applied_versions
SELECT version FROM k2_offload.schema_versions;

-- name: record_version
INSERT INTO k2_offload.schema_versions (version) VALUES (%(version)s);

-- name: lock_table
SELECT last_offload_timestamp, cold_table_uuid, looked_at, cleared_until, row_limit,
       (SELECT ledger_id::text FROM k2_offload.offload_ledger)
FROM k2_offload.offload_watermarks
WHERE table_name = %(table)s
FOR UPDATE;

-- name: look_at_table
SELECT last_offload_timestamp, cold_table_uuid, looked_at, cleared_until, row_limit,
       (SELECT ledger_id::text FROM k2_offload.offload_ledger)
FROM k2_offload.offload_watermarks
WHERE table_name = %(table)s;

-- name: add_table
INSERT INTO k2_offload.offload_watermarks (table_name) VALUES (%(table)s)
ON CONFLICT DO NOTHING;

-- name: open_window_of
SELECT window_id, planned_rows, failures, planned_at
FROM k2_offload.offload_windows
WHERE table_name = %(table)s AND state = 'open';

-- name: open_window
INSERT INTO k2_offload.offload_windows
    (window_id, table_name, low, high, state, dag_run_id, planned_rows, max_sequence, first_row, planned_at, failures)
VALUES
    (%(window_id)s, %(table)s, %(low)s, %(high)s, 'open', %(dag_run_id)s, %(rows)s, %(max_sequence)s, %(first_row)s,
     %(now)s, %(failures)s)
ON CONFLICT (window_id) DO UPDATE SET
    state = 'open', dag_run_id = excluded.dag_run_id, attempts = offload_windows.attempts + 1,
    planned_rows = excluded.planned_rows, max_sequence = excluded.max_sequence, first_row = excluded.first_row,
    planned_at = excluded.planned_at, failures = excluded.failures;

-- name: resume_window
UPDATE k2_offload.offload_windows
SET attempts = attempts + 1, dag_run_id = %(dag_run_id)s
WHERE window_id = %(window_id)s;

-- name: fail_window
UPDATE k2_offload.offload_windows AS windows
SET failures = failures + 1
FROM k2_offload.offload_watermarks AS watermarks
WHERE windows.window_id = %(window_id)s AND watermarks.table_name = windows.table_name
  AND watermarks.status = 'running';

-- name: abandon_window
UPDATE k2_offload.offload_windows
SET state = 'abandoned'
WHERE window_id = %(window_id)s;

-- name: commit_window
UPDATE k2_offload.offload_windows
SET state = 'committed', committed_at = %(now)s, rows = %(rows)s, size_bytes = %(size_bytes)s,
    snapshot_id = %(snapshot_id)s
WHERE window_id = %(window_id)s;

-- name: record_success
UPDATE k2_offload.offload_watermarks AS watermarks
SET last_offload_max_sequence = windows.max_sequence,
    last_offload_row_count = windows.rows,
    last_run_duration_seconds = extract(epoch FROM windows.committed_at - windows.planned_at),
    last_successful_run = windows.committed_at,
    status = 'success', reason = NULL
FROM k2_offload.offload_windows AS windows
WHERE windows.window_id = %(window_id)s AND watermarks.table_name = windows.table_name;

-- name: set_watermark
UPDATE k2_offload.offload_watermarks
SET last_offload_timestamp = %(watermark)s, cold_table_uuid = %(table_uuid)s, last_snapshot_id = %(snapshot_id)s
WHERE table_name = %(table)s;

-- name: set_status
UPDATE k2_offload.offload_watermarks
SET status = %(status)s, reason = NULL
WHERE table_name = %(table)s;

-- name: set_failed
UPDATE k2_offload.offload_watermarks
SET status = 'failed', reason = CASE WHEN %(keep)s THEN coalesce(reason, %(reason)s) ELSE %(reason)s END
WHERE table_name = %(table)s;

-- name: limit_rows
UPDATE k2_offload.offload_watermarks
SET row_limit = %(rows)s
WHERE table_name = %(table)s;

-- name: set_looked
UPDATE k2_offload.offload_watermarks
SET looked_at = %(looked_at)s, cleared_until = %(cleared_until)s
WHERE table_name = %(table)s;

-- name: accept_rows
UPDATE k2_offload.offload_windows
SET planned_rows = %(rows)s, failures = 0
WHERE window_id = %(window_id)s;

-- name: record_gap
-- Those of fewer rows are written with what they are about: as many may be gone once more.
INSERT INTO k2_offload.offload_gaps (table_name, low, high, kind, rows, accepted_at)
SELECT %(table)s, %(low)s, %(high)s, %(kind)s, %(rows)s, %(now)s
WHERE NOT EXISTS (
    SELECT FROM k2_offload.offload_gaps
    WHERE table_name = %(table)s AND low = %(low)s AND high = %(high)s AND kind = %(kind)s
          AND rows IS NOT DISTINCT FROM %(rows)s
          AND kind <> 'fewer rows'
);

-- name: read_gaps
SELECT table_name, low, high, kind, rows, accepted_at
FROM k2_offload.offload_gaps
ORDER BY table_name, low, gap_id;

-- name: record_day
INSERT INTO k2_offload.offload_days
    (table_name, day, verdict, compared_at, snapshot_id, below, warm_rows, cold_rows, late_rows, gone_rows,
     differs_from, differs_until, unequal_since, problem, whole)
VALUES
    (%(table)s, %(day)s, %(verdict)s, %(now)s, %(snapshot_id)s, %(below)s, %(warm_rows)s, %(cold_rows)s,
     %(late_rows)s, %(gone_rows)s, %(differs_from)s, %(differs_until)s,
     CASE WHEN %(differs)s THEN %(now)s END, %(problem)s, %(whole)s)
ON CONFLICT (table_name, day) DO UPDATE SET
    verdict = excluded.verdict, compared_at = excluded.compared_at, snapshot_id = excluded.snapshot_id,
    below = excluded.below, warm_rows = excluded.warm_rows, cold_rows = excluded.cold_rows,
    late_rows = excluded.late_rows, gone_rows = excluded.gone_rows, differs_from = excluded.differs_from,
    differs_until = excluded.differs_until, problem = excluded.problem, whole = excluded.whole,
    unequal_since = CASE WHEN %(differs)s THEN coalesce(offload_days.unequal_since, excluded.unequal_since) END
RETURNING unequal_since;

-- name: keep_late_rows
-- Not those of a heal, which takes older versions of them away.
UPDATE k2_offload.offload_days
SET verdict = CASE %(verdict)s WHEN 'unreadable' THEN 'unreadable' ELSE 'late rows' END, compared_at = %(now)s,
    below = %(below)s, warm_rows = %(warm_rows)s, problem = coalesce(%(problem)s, problem), whole = false
WHERE table_name = %(table)s AND day = %(day)s AND late_rows > %(late_rows)s AND cold_rows >= %(cold_rows)s
      AND (NOT whole OR gone_rows = 0)
RETURNING unequal_since;

-- name: days_of
SELECT day, verdict, compared_at
FROM k2_offload.offload_days
WHERE table_name = %(table)s;

-- name: record_maintenance
INSERT INTO k2_offload.maintenance_runs
    (table_name, ended_at, dry_run, files_before, files_after, bytes_before, bytes_after, rewritten_days,
     expired_snapshots, snapshots_after, orphans, orphan_bytes, seconds, problem)
VALUES
    (%(table)s, %(now)s, %(dry_run)s, %(files_before)s, %(files_after)s, %(bytes_before)s, %(bytes_after)s,
     %(rewritten_days)s, %(expired_snapshots)s, %(snapshots_after)s, %(orphans)s, %(orphan_bytes)s, %(seconds)s,
     %(problem)s);

-- name: record_retention_step
INSERT INTO k2_offload.retention_steps (storage, partition_id, days, step, rows, at, reason)
VALUES (%(storage)s, %(partition_id)s, %(days)s, %(step)s, %(rows)s, %(at)s, %(reason)s);

-- name: lock_retention
SELECT pg_try_advisory_xact_lock(hashtextextended('k2_offload.retention ' || %(storage)s, 0));

-- name: last_maintained
SELECT table_name, max(ended_at)
FROM k2_offload.maintenance_runs
WHERE NOT dry_run AND problem IS NULL
GROUP BY table_name;

-- name: last_attempts
SELECT table_name, max(ended_at)
FROM k2_offload.maintenance_runs
GROUP BY table_name;

-- name: maintenance_since
SELECT DISTINCT ON (table_name) table_name, files_before, files_after, bytes_before, bytes_after, rewritten_days,
       expired_snapshots, snapshots_after, orphans, orphan_bytes, seconds, problem
FROM k2_offload.maintenance_runs
WHERE ended_at >= %(since)s AND snapshots_after > 0  -- 0: it has only begun, and not come back
ORDER BY table_name, run_id DESC;

-- name: last_windows
SELECT windows.table_name, windows.low, windows.high, windows.state, windows.dag_run_id, windows.attempts,
       windows.planned_rows, windows.rows, windows.size_bytes, windows.planned_at, windows.committed_at
FROM k2_offload.offload_watermarks AS watermarks
CROSS JOIN LATERAL (
    SELECT *
    FROM k2_offload.offload_windows AS each
    WHERE each.table_name = watermarks.table_name
    ORDER BY planned_at DESC
    LIMIT %(limit)s
) AS windows
WHERE watermarks.table_name = ANY(%(tables)s)
ORDER BY windows.planned_at DESC;

-- name: windows_since
SELECT windows.table_name, windows.low, windows.high, windows.state, windows.dag_run_id, windows.attempts,
       windows.planned_rows, windows.rows, windows.size_bytes, windows.planned_at, windows.committed_at
FROM k2_offload.offload_watermarks AS watermarks
LEFT JOIN LATERAL (
    SELECT planned_at
    FROM k2_offload.offload_windows AS each
    WHERE each.table_name = watermarks.table_name AND state <> 'abandoned'
    ORDER BY planned_at DESC
    LIMIT 1
) AS last_window ON true
CROSS JOIN LATERAL (
    SELECT *
    FROM k2_offload.offload_windows AS each
    WHERE each.table_name = watermarks.table_name AND planned_at >= least(%(since)s, last_window.planned_at)
    ORDER BY planned_at DESC  -- in each table by itself: by the index, and not through all windows
) AS windows
WHERE watermarks.table_name = ANY(%(tables)s)
ORDER BY windows.planned_at DESC;

-- name: compared_days
SELECT table_name, day, verdict, compared_at, warm_rows, cold_rows, late_rows, gone_rows, unequal_since, problem
FROM k2_offload.offload_days
WHERE table_name = ANY(%(tables)s) AND day >= %(since)s
ORDER BY table_name, day;

-- name: windows_of_day
SELECT table_name, window_id, low, high, state, failures, planned_at, committed_at, rows, size_bytes, first_row
FROM k2_offload.offload_windows
WHERE planned_at >= %(start)s AND planned_at < %(end)s OR committed_at >= %(start)s AND committed_at < %(end)s
    OR planned_at < %(start)s AND (state = 'open' OR state = 'committed' AND committed_at >= %(end)s);

-- name: maintenance_of_day
SELECT table_name, files_before, files_after, bytes_before, bytes_after, rewritten_days, expired_snapshots,
       snapshots_after, orphans, orphan_bytes, seconds, problem
FROM k2_offload.maintenance_runs
WHERE NOT dry_run AND ended_at >= %(start)s AND ended_at < %(end)s AND snapshots_after > 0
ORDER BY run_id;

-- name: window_totals
WITH recent AS (
    SELECT table_name,
           percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY date_part('epoch', committed_at - planned_at))
               AS durations,
           percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY date_part('epoch', committed_at - coalesce(first_row, low)))
               FILTER (WHERE rows > 0 AND low > %(first)s) AS lags
    FROM k2_offload.offload_windows
    WHERE state = 'committed' AND committed_at > %(since)s
    GROUP BY table_name
)
SELECT totals.table_name, totals.committed, totals.abandoned, (opened.window_id IS NOT NULL)::int, totals.rows,
       totals.size_bytes, totals.retries, totals.failures, coalesce(opened.failures, 0),
       recent.durations[1], recent.durations[2], recent.lags[1], recent.lags[2],
       last_window.rows, last_window.planned_at, last_window.committed_at, first_window.planned_at
FROM k2_offload.offload_totals AS totals
JOIN LATERAL (
    SELECT planned_at
    FROM k2_offload.offload_windows AS windows
    WHERE windows.table_name = totals.table_name
    ORDER BY planned_at
    LIMIT 1
) AS first_window ON true
LEFT JOIN k2_offload.offload_windows AS opened ON opened.table_name = totals.table_name AND opened.state = 'open'
LEFT JOIN recent ON recent.table_name = totals.table_name
LEFT JOIN LATERAL (
    SELECT rows, planned_at, committed_at
    FROM k2_offload.offload_windows AS windows
    WHERE windows.table_name = totals.table_name AND state = 'committed'
    ORDER BY planned_at DESC
    LIMIT 1
) AS last_window ON true;

-- name: last_comparisons
SELECT table_name, max(compared_at)
FROM k2_offload.offload_days
GROUP BY table_name;

-- name: unequal_days
SELECT table_name, day, unequal_since, late_rows, gone_rows, whole, verdict = 'unreadable'
FROM k2_offload.offload_days
WHERE unequal_since IS NOT NULL
ORDER BY table_name, day;

-- name: forget_cold_table
UPDATE k2_offload.offload_watermarks
SET cold_table_uuid = NULL, looked_at = NULL, cleared_until = NULL
WHERE table_name = %(table)s;

-- name: may_keep_ledger
SELECT to_regnamespace('k2_offload') IS NOT NULL OR has_database_privilege(current_database(), 'CREATE');

-- name: read_tables
SELECT watermarks.table_name, watermarks.last_offload_timestamp, watermarks.status,
       watermarks.last_successful_run, watermarks.last_run_duration_seconds,
       last_window.low, last_window.high, last_window.state, last_window.rows, last_window.planned_rows,
       watermarks.cold_table_uuid, watermarks.row_limit, watermarks.reason,
       (SELECT ledger_id::text FROM k2_offload.offload_ledger)
FROM k2_offload.offload_watermarks AS watermarks
LEFT JOIN LATERAL (
    SELECT low, high, state, rows, planned_rows
    FROM k2_offload.offload_windows AS windows
    WHERE windows.table_name = watermarks.table_name AND state <> 'abandoned'
    ORDER BY planned_at DESC
    LIMIT 1
) AS last_window ON true;

-- name: has_seals
SELECT to_regclass('k2_offload.offload_seals') IS NOT NULL;

-- name: read_seals
SELECT *
FROM k2_offload.offload_seals
WHERE table_name = ANY(%(tables)s)
ORDER BY table_name, day, sealed_at;

-- name: record_seal
INSERT INTO k2_offload.offload_seals
    (seal_id, table_name, table_uuid, day, partition_column, rows, content_hash, columns, before, snapshot_id,
     sealed_at, accepted)
VALUES (%(seal_id)s, %(table_name)s, %(table_uuid)s, %(day)s, %(partition_column)s, %(rows)s, %(content_hash)s,
        %(columns)s, %(before)s, %(snapshot_id)s, %(sealed_at)s, %(accepted)s)
ON CONFLICT (seal_id) DO UPDATE
SET table_name = excluded.table_name, table_uuid = excluded.table_uuid, day = excluded.day,
    partition_column = excluded.partition_column, rows = excluded.rows, content_hash = excluded.content_hash,
    columns = excluded.columns, before = excluded.before, snapshot_id = excluded.snapshot_id, sealed_at = excluded.sealed_at,
    accepted = excluded.accepted;

-- name: record_verification
UPDATE k2_offload.offload_seals
SET verified_at = %(now)s, problem = %(problem)s,
    verified_snapshot = CASE WHEN %(problem)s::text IS NULL THEN %(snapshot_id)s ELSE verified_snapshot END
WHERE seal_id = %(seal_id)s;

-- name: sealed_days
SELECT seals.table_name, count(*) AS days, max(seals.day) AS newest, count(seals.problem) AS broken,
       min(coalesce(seals.verified_at, seals.sealed_at)) AS oldest_verification
FROM k2_offload.offload_seals AS seals
JOIN k2_offload.offload_watermarks AS watermarks
    ON watermarks.table_name = seals.table_name AND watermarks.cold_table_uuid = seals.table_uuid
WHERE NOT EXISTS (SELECT FROM k2_offload.offload_seals AS later WHERE later.before = seals.seal_id)
GROUP BY seals.table_name;

-- name: has_offsets
SELECT to_regclass('k2_offload.offload_offsets') IS NOT NULL;

-- name: read_offsets
SELECT table_name, compared_at, missing, repeated, unclear FROM k2_offload.offload_offsets;

-- name: record_offsets
INSERT INTO k2_offload.offload_offsets (table_name, compared_at, missing, repeated, unclear)
VALUES (%(table)s, %(now)s, %(missing)s, %(repeated)s, %(unclear)s)
ON CONFLICT (table_name) DO UPDATE
SET compared_at = excluded.compared_at, missing = excluded.missing, repeated = excluded.repeated,
    unclear = excluded.unclear;

-- name: has_offset_ends
SELECT to_regclass('k2_offload.offload_offset_ends') IS NOT NULL;

-- name: read_offset_ends
SELECT topic, partition_number, read_below, due_below, seen_end, seen_at
FROM k2_offload.offload_offset_ends WHERE table_name = %(table)s;

-- name: record_offset_end
INSERT INTO k2_offload.offload_offset_ends
    (table_name, topic, partition_number, read_below, due_below, seen_end, seen_at)
VALUES (%(table)s, %(topic)s, %(number)s, %(read_below)s, %(due_below)s, %(seen_end)s, %(seen_at)s)
ON CONFLICT (table_name, topic, partition_number) DO UPDATE
SET read_below = excluded.read_below, due_below = excluded.due_below, seen_end = excluded.seen_end,
    seen_at = excluded.seen_at;

-- name: has_asked_broker
SELECT EXISTS (SELECT FROM k2_offload.offload_broker);

-- name: record_broker
INSERT INTO k2_offload.offload_broker (asked_since)
SELECT %(now)s WHERE NOT EXISTS (SELECT FROM k2_offload.offload_broker);
