"""Where the files are that come with the package: everything below ``include/``."""

from __future__ import annotations

from pathlib import Path

INCLUDE = Path(__file__).parents[2] / "include"

TABLES_FILE = INCLUDE / "tables.yaml"
LEDGER_SQL = INCLUDE / "sql" / "postgres"
SPARK_JOBS = INCLUDE / "spark_jobs"
