"""The page tells the truth about real tables."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from k2_offload.core.errors import OffloadError
from k2_offload.core.tables import LAYERS
from k2_offload.web.access import readable_layers
from k2_offload.web.app import build_app
from k2_offload.web.page import Looks, shared_looks
from k2_offload.work.overview import read_detail, read_overview
from k2_offload.work.reconcile import reconcile
from tests.support.html import Page

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAGS = dict.fromkeys(LAYERS, "no_such_dag")


def show(cycle, path):
    """A page of a server that was started just now."""
    app = build_app()
    looks = Looks(lambda: read_overview(cycle.tiers, DAGS), lambda name: read_detail(cycle.tiers, cycle.tables[name]))
    for each in (looks.overview, *map(looks.detail, cycle.tables.by_name)):
        assert each.look(patience_seconds=120).problem is None
    app.dependency_overrides = {readable_layers: lambda: frozenset(LAYERS), shared_looks: lambda: looks}
    answer = TestClient(app).get(path)
    assert answer.status_code == 200
    return Page(answer.text)


def test_the_page_says_what_the_cycles_did(workbench):
    good, broken, later = (workbench.create_trades(suffix) for suffix in ("good", "broken", "later"))
    specs = [*map(workbench.spec, (good, broken)), workbench.spec(later, layer="silver", upstream=f"[{good}]")]
    now = NOON + timedelta(hours=2)
    cycle = workbench.cycle(*specs, now=lambda: now)
    workbench.insert_trades(good, NOON, 1000)
    workbench.move(cycle, good)
    now += timedelta(minutes=15)
    workbench.insert_trades(good, NOON + timedelta(minutes=30), 234)
    workbench.insert_trades(good, NOON + timedelta(minutes=119), 6)
    workbench.move(cycle, good)
    workbench.insert_trades(good, NOON + timedelta(minutes=1), 7, start_sequence=10**6)
    list(reconcile(cycle.tiers, [cycle.tables[good]]))
    workbench.sql(f"DROP TABLE {broken}")
    with pytest.raises(OffloadError) as refused:
        cycle.plan(cycle.tables[broken])
    cycle.mark_failed(cycle.tables[broken], str(refused.value))

    rows = show(cycle, "/").text
    line = re.search(rf"{good} (.*?) {broken} ", rows)[1]
    watermark = cycle.ledger.read_tables()[good].watermark
    for words in (f"{watermark:%Y-%m-%d %H:%M:%S}", "16 min 00 s 234, 0 s", "1,247 1,234 7"):
        assert words in line, line
    assert f"{broken} unreadable" in rows
    assert f"ClickHouse has no table k2.{broken}" in rows
    assert f"{later} no DAG" in rows
    assert "ClickHouse has no rows up to now, and none was ever moved." in rows

    close = show(cycle, f"/tables/{good}")
    for words in (
        "The last 2 windows as a table", "late rows, 7 rows only warm", "price Decimal(38, 18) decimal(38, 18)",
        "append window 2026-03-04 12", f"k2 heal {good}",
    ):  # fmt: skip
        assert words in close.text, words
    assert "differs" not in close.text
    assert "The last 0" not in show(cycle, f"/tables/{broken}").text
