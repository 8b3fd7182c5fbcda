-- Who may do what in an Iceberg catalog of type sql. Run it once, as superuser, in the catalog's database, after the
-- first cycle or `k2 validate` has made its tables. The offload uses their owner (iceberg), since it makes cold tables.
-- A REST catalog has rights of its own instead. Rights in the lake's storage come beside these.

-- Reads cold tables: Spark, DuckDB, pyiceberg.
CREATE ROLE k2_cold_view NOLOGIN;
-- Compacts and expires: moves tables to newer metadata; makes, drops and renames none.
CREATE ROLE k2_maintenance NOLOGIN;

GRANT SELECT ON iceberg_tables, iceberg_namespace_properties TO k2_cold_view, k2_maintenance;
GRANT UPDATE (metadata_location, previous_metadata_location) ON iceberg_tables TO k2_maintenance;
DO $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO k2_cold_view, k2_maintenance', current_database());
END $$;
