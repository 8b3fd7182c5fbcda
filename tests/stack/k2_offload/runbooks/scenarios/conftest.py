"""Scenarios of `make runbooks` alone: each ``k2 run`` runs the DAGs."""

from __future__ import annotations

import pytest

from tests.support.pages import DOCS

OFFSETS_SCHEMA = DOCS.parent / "docker/clickhouse/80_message_offsets.sql"


@pytest.fixture
def runbook(runbook):
    def begin(section, **options):
        scenario = runbook(section, **options)
        scenario.real_runs = True
        return scenario

    return begin


@pytest.fixture
def offsets_table(workbench):
    """Where ClickHouse keeps the offsets of messages."""
    _, _, statements = OFFSETS_SCHEMA.read_text().partition("CREATE TABLE IF NOT EXISTS")
    workbench.sql(f"CREATE TABLE {statements.partition(';')[0]}")
    yield
    workbench.sql("DROP TABLE message_offsets SYNC")
