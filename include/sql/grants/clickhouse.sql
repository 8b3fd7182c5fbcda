-- Who may do what in ClickHouse. The rights of views and of 'retention: proven' are tried (tests/stack/docker). These roles
-- are not: the embedded engine has one user, and creates no other and no role (ACCESS_DENIED). Give a user its role:
-- GRANT k2_offload TO offload.

-- offload and heal: both read the source and write files, and a heal reads the cold table's files, too.
CREATE ROLE IF NOT EXISTS k2_offload;
GRANT SELECT ON k2.* TO k2_offload;
-- For a warehouse on S3 only. The keys stay in the named collection; the role may use them, not see them.
GRANT CREATE TEMPORARY TABLE, S3 ON *.* TO k2_offload;
GRANT NAMED COLLECTION ON k2_lake TO k2_offload;

-- Only for replicated tables: `plan` asks how far behind this server's replica is.
-- GRANT SELECT ON system.replicas TO k2_offload;

-- Only where the table file names views over both tiers (key 'view'):
-- GRANT CREATE VIEW, DROP VIEW ON k2.* TO k2_offload;
-- and before 26.9 these two, the second one for each view (docs/reading.md says why):
-- GRANT SELECT, DROP TABLE, DROP VIEW ON k2._tmp_replace_* TO k2_offload;
-- GRANT CREATE TABLE, INSERT ON k2.trades_all TO k2_offload;

-- Only for tables with 'retention: proven', and only on their storage and its holding table: docs/retention.md.

-- Looks: `k2 status`. It can read rows, but write nothing and reach no storage.
CREATE ROLE IF NOT EXISTS k2_view;
GRANT SELECT ON k2.* TO k2_view;

-- maintenance of cold tables: as k2_offload. It asks ClickHouse the time, and reads the lake through it to verify seals
-- (with cold_reader = worker, it does not); with 'retention: proven' it moves and drops partitions.
