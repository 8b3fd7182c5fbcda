"""What a person is told before a cold table is accepted as it is."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.cli import watermark
from k2_offload.cli.main import app
from k2_offload.core.exactly_once import FIRST_WATERMARK, WindowId
from k2_offload.core.skips import GivenUp
from k2_offload.core.windows import Window
from k2_offload.work.watermarks import ColdReading
from tests.model.world import TABLES

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
ADOPT = WindowId("uuid", Window(FIRST_WATERMARK, NOON))
GIVEN_UP = (GivenUp(FIRST_WATERMARK, NOON, 3_000_000), GivenUp(NOON, NOON.replace(hour=13), None))
OLD_COLUMN = "put the old column back and run `k2 backfill bronze_a`"


@pytest.fixture
def rebuild(monkeypatch):
    """Shows what there is to accept."""

    def run(*options, **found):
        cold = SimpleNamespace(uuid="uuid", total_rows=0)
        tiers = SimpleNamespace(tables=TABLES, ledger=SimpleNamespace(read_tables=dict))
        monkeypatch.setattr(watermark, "open_tiers", lambda: nullcontext(tiers))
        reading = ColdReading(cold, None, ADOPT, "its history cannot say", **found)
        monkeypatch.setattr(watermark, "read_cold_table", lambda *_: reading)
        return CliRunner().invoke(app, ["watermark", "rebuild", "bronze_a", "--dry-run", *options]).stdout

    return run


@pytest.mark.parametrize(
    ("found", "said", "unsaid"),
    [
        pytest.param({}, ["its newest row does"], ["backfill"], id="history is lost"),
        pytest.param(
            {"given_up": GIVEN_UP[:1]},
            ["3,000,000 rows in 2000-01-01 00:00:00 to 2026-03-04 12:00:00, left out on purpose, cannot be brought"],
            [OLD_COLUMN],
            id="history is lost, and what was left out with it",
        ),
        pytest.param(
            {"old_column": "old", "late": 7},
            ["7 rows in ClickHouse", "does not count them as late"],
            ["backfill"],
            id="another column",
        ),
        pytest.param(
            {"old_column": "old", "late": 0, "given_up": GIVEN_UP},
            ["0 rows in ClickHouse", "; an unknown number of rows in 2026-03-04 12:00:00 to", OLD_COLUMN],
            [],
            id="another column, and rows were left out",
        ),
        pytest.param(
            {"old_column": "old[1]", "given_up": GIVEN_UP[:1]},
            ["An unknown number of rows, as old[1] has gone from the source, in ClickHouse"],
            [OLD_COLUMN],
            id="another column, and the old one has gone",
        ),
        pytest.param(
            {"skipped_rows": 2_500_000},
            ["2,500,000 rows in ClickHouse", "`k2 backfill bronze_a` brings them"],
            ["late"],
            id="another column, before any row was moved",
        ),
    ],
)
def test_what_no_window_will_move_is_named_before_it_is_accepted(rebuild, found, said, unsaid):
    shown = rebuild(**found)
    assert [each for each in said if each not in shown] == []
    assert [each for each in unsaid if each in shown] == []


def test_what_is_given_up_is_in_the_document(rebuild):
    assert [(each["low"], each["rows"]) for each in json.loads(rebuild("--json", given_up=GIVEN_UP))["given_up"]] == [
        ("2000-01-01T00:00:00.000000Z", 3_000_000),
        ("2026-03-04T12:00:00.000000Z", None),
    ]
