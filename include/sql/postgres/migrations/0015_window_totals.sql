-- What the windows of each table add up to, so that a look does not read the windows of years. Whatever changes a window
-- changes these with it: every version's statements, and a person's.
CREATE TABLE k2_offload.offload_totals (
    table_name text PRIMARY KEY,
    committed  bigint NOT NULL,                         -- windows, as abandoned
    abandoned  bigint NOT NULL,
    rows       bigint NOT NULL,                         -- of committed windows, as size_bytes
    size_bytes bigint NOT NULL,
    retries    bigint NOT NULL,                         -- of all windows, as failures
    failures   bigint NOT NULL
);

CREATE FUNCTION k2_offload.keep_totals() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO k2_offload.offload_totals AS totals
    SELECT table_name,
           coalesce(sum(sign) FILTER (WHERE state = 'committed'), 0),
           coalesce(sum(sign) FILTER (WHERE state = 'abandoned'), 0),
           coalesce(sum(sign * rows) FILTER (WHERE state = 'committed'), 0),
           coalesce(sum(sign * size_bytes) FILTER (WHERE state = 'committed'), 0),
           sum(sign * (attempts - 1)),
           sum(sign * failures)
    FROM (
        SELECT -1 AS sign, OLD.table_name, OLD.state, OLD.rows, OLD.size_bytes, OLD.attempts, OLD.failures
        UNION ALL
        SELECT 1, NEW.table_name, NEW.state, NEW.rows, NEW.size_bytes, NEW.attempts, NEW.failures
    ) AS changes
    WHERE table_name IS NOT NULL                        -- there is no old window of a new one, nor the reverse
    GROUP BY table_name
    ON CONFLICT (table_name) DO UPDATE SET
        committed = totals.committed + excluded.committed, abandoned = totals.abandoned + excluded.abandoned,
        rows = totals.rows + excluded.rows, size_bytes = totals.size_bytes + excluded.size_bytes,
        retries = totals.retries + excluded.retries, failures = totals.failures + excluded.failures;
    RETURN NULL;
END $$;

-- Nobody else writes windows from here to the end of the migration.
CREATE TRIGGER offload_windows_totals AFTER INSERT OR UPDATE OR DELETE ON k2_offload.offload_windows
    FOR EACH ROW EXECUTE FUNCTION k2_offload.keep_totals();
INSERT INTO k2_offload.offload_totals
SELECT table_name,
       count(*) FILTER (WHERE state = 'committed'),
       count(*) FILTER (WHERE state = 'abandoned'),
       coalesce(sum(rows) FILTER (WHERE state = 'committed'), 0),
       coalesce(sum(size_bytes) FILTER (WHERE state = 'committed'), 0),
       sum(attempts - 1),
       sum(failures)
FROM k2_offload.offload_windows
GROUP BY table_name;
