"""What a process that forks tasks does once before, so that no task has to: import Airflow and read its settings."""

from __future__ import annotations

import pyiceberg.catalog.sql
import pyiceberg.io.pyarrow  # noqa: F401

import tests.faults.tasks  # noqa: F401
from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from k2_offload.work.tiers import open_ledger

settings = load_settings()
open_ledger(settings)
connections.clickhouse_endpoint(settings)
connections.catalog_settings(settings)
