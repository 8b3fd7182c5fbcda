"""Where the files are that come with the package: everything below ``include/``, and templates.

In a checkout that folder stands two above the package; a wheel has it inside.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent
IN_WHEEL = (PACKAGE / "include").is_dir()
INCLUDE = (PACKAGE if IN_WHEEL else PACKAGE.parents[1]) / "include"

TABLES_FILE = INCLUDE / "tables.yaml"
LEDGER_SQL = INCLUDE / "sql" / "postgres"
SPARK_JOBS = INCLUDE / "spark_jobs"
TEMPLATES = PACKAGE / "web" / "templates"
"""Of the page, and of the report that looks like it."""
