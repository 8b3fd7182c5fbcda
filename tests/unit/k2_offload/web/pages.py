"""Pages of what a test says was read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from fastapi.testclient import TestClient

from k2_offload.adapters.dag_runs import DagState
from k2_offload.adapters.ledger_records import RecordedWindow, TableRecord
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.observation import Comparisons, Records
from k2_offload.core.tables import LAYERS
from k2_offload.web.access import readable_layers
from k2_offload.web.app import build_app
from k2_offload.web.page import shared_looks
from k2_offload.web.shared import Look
from k2_offload.work.overview import Overview, TableDetail, TableOverview
from k2_offload.work.status import Metadata, TableStatus

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TABLES = parse_tables(
    "tables:\n"
    "  b: {layer: bronze, source: k2.b, target: cold.b, timestamp_column: at}\n"
    "  s: {layer: silver, source: k2.s, target: cold.s, timestamp_column: at}\n"
    "  g: {layer: gold, source: k2.g, target: cold.g, timestamp_column: at}\n"
).by_name
RUNNING = DagState(paused=False)
COMPARED = Records(Comparisons(NOON))
WINDOW = RecordedWindow(
    NOON - HOUR, NOON - 15 * MINUTE, "committed", "scheduled__1", 1, 1234, 1234, 5000, NOON - 14 * MINUTE,
    NOON - 13 * MINUTE,
)  # fmt: skip


def record(status="success", reason=None, **changes):
    return replace(TableRecord("b", NOON - 15 * MINUTE, status, *[None] * 8, reason=reason), **changes)


GOOD = TableStatus(
    TABLES["b"],
    record(),
    NOON - 15 * MINUTE,
    timedelta(minutes=15),
    metadata=Metadata(5, 9, overdue=False),
    cold_rows=98765,
)


def table(status=GOOD, **changes):
    return replace(TableOverview(status, True, 4321, (WINDOW,), COMPARED), **changes)


def overview(*tables, **changes):
    found = Overview(NOON, tables or (table(),), dict.fromkeys(LAYERS, RUNNING), True, ())
    return replace(found, **changes)


def table_of(name):
    """A healthy table of that name."""
    return table(replace(GOOD, table=TABLES[name]))


def looks(look, detail=None):
    """What the app asks for, read already."""
    found = Look(TableDetail(NOON)) if detail is None else detail
    return SimpleNamespace(
        overview=SimpleNamespace(look=lambda: look), detail=lambda _: SimpleNamespace(look=lambda: found)
    )


def get(look, path="/", detail=None):
    """The app's answer to a user who may read everything."""
    app = build_app()
    app.dependency_overrides = {readable_layers: lambda: frozenset(LAYERS), shared_looks: lambda: looks(look, detail)}
    return TestClient(app).get(path)


def page(*tables, path="/", detail=None, **changes):
    """The page of these tables."""
    answer = get(Look(overview(*tables, **changes)), path, Look(detail or TableDetail(NOON)))
    assert answer.status_code == 200
    return answer.text
