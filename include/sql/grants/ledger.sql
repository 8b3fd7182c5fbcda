-- Who may do what in the ledger. Run it once, as superuser, in the database that holds (or will hold) the schema
-- k2_offload, after the login k2_ledger exists: that is what the connection k2_ledger uses, and it owns the schema.
-- Give a login the role that it needs: GRANT k2_view TO grafana.
--
-- offload, heal, accept, watermark, maintenance: the owner. They all write: windows, comparisons, gaps, what was tidied.

-- Looks: `k2 status`, pages, dashboards. No row can be changed, locked or added.
CREATE ROLE k2_view NOLOGIN;
-- The first migration makes the schema, perhaps later: hence defaults, for what k2_ledger makes in this database.
ALTER DEFAULT PRIVILEGES FOR ROLE k2_ledger GRANT USAGE ON SCHEMAS TO k2_view;
ALTER DEFAULT PRIVILEGES FOR ROLE k2_ledger GRANT SELECT ON TABLES TO k2_view;
DO $$ BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO k2_view', current_database());
    IF EXISTS (SELECT FROM pg_namespace WHERE nspname = 'k2_offload') THEN
        GRANT USAGE ON SCHEMA k2_offload TO k2_view;
        GRANT SELECT ON ALL TABLES IN SCHEMA k2_offload TO k2_view;
    END IF;
END $$;
