-- A role for each service, with what it needs and no more; the superuser is for people. Run once, by the image, when the
-- data folder is new; passwords come from the container's environment.
\getenv airflow_password K2_AIRFLOW_DATABASE_PASSWORD
\getenv ledger_password K2_LEDGER_PASSWORD
\getenv catalog_password K2_CATALOG_DATABASE_PASSWORD

CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE ROLE k2_ledger LOGIN PASSWORD :'ledger_password';
CREATE ROLE iceberg LOGIN PASSWORD :'catalog_password';

CREATE DATABASE airflow OWNER airflow;
CREATE DATABASE iceberg OWNER iceberg;
REVOKE ALL ON DATABASE airflow, iceberg, postgres, template1 FROM PUBLIC;
-- The ledger's first migration creates its schema. It sees nothing of Airflow's own tables.
GRANT CONNECT, CREATE ON DATABASE airflow TO k2_ledger;
