"""What a process that forks tasks does once before, so that no task has to: import Airflow and read its settings."""

from __future__ import annotations

import pyiceberg.catalog.sql  # noqa: F401

import tests.faults.tasks  # noqa: F401
from k2_offload.adapters import airflow_config

settings = airflow_config.load_settings()
airflow_config.load_ledger(settings)
airflow_config.load_clickhouse(settings)
airflow_config.load_catalog(settings)
