"""``k2 view`` says of each table where its boundary is, and why it is no later, whether it can be renewed or not."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.cli import view
from k2_offload.cli.main import app
from k2_offload.core.combined_view import ViewState
from k2_offload.core.errors import OffloadError
from k2_offload.core.tables import Tables
from k2_offload.work.combined_view import PlannedView
from tests.model.world import TABLES

BEFORE = ViewState(
    "silver", "u", "at", datetime(2026, 3, 4, tzinfo=UTC), 1, "file:///m", datetime(2026, 3, 10, 23, tzinfo=UTC)
)
NOW = replace(BEFORE, boundary=datetime(2026, 3, 5, tzinfo=UTC))
REASON = "2 days from 2026-03-01 on were never sealed. `k2 view silver --apply --accept-unsealed`."


@pytest.fixture
def plans(monkeypatch):
    """What the view is planned to be; an error is raised."""
    found = [PlannedView(BEFORE, NOW, "windows are still to come to 2026-03-05", "")]
    tables = Tables({"silver": replace(TABLES["silver"], view="k2.silver_all", upstream=())})

    def plan_view(*_, **__):
        if isinstance(found[0], OffloadError):
            raise found[0]
        return found[0]

    @contextmanager
    def open_tiers():
        yield SimpleNamespace(tables=tables, ledger=SimpleNamespace(migrate=lambda: None))

    monkeypatch.setattr(view, "open_tiers", open_tiers)
    monkeypatch.setattr(view, "plan_view", plan_view)
    monkeypatch.setattr(view, "read_state", lambda *_: BEFORE)
    return found


@pytest.mark.usefixtures("plans")
def test_it_says_what_would_be_what_is_and_why_it_is_no_later():
    shown = CliRunner().invoke(app, ["view"]).output
    assert "would read days before 2026-03-05" in shown
    assert "It reads days before 2026-03-04 from the cold table, and is good until 2026-03-10 23:00 UTC." in shown
    assert "The boundary is no later, because windows are still to come to 2026-03-05." in shown


def test_a_refusal_says_what_the_view_goes_on_to_show(plans):
    plans[0] = OffloadError(REASON)
    result = CliRunner().invoke(app, ["view"])
    assert result.exit_code == 1
    words = " ".join(result.output.split())
    assert REASON in words
    assert (
        "k2.silver_all stays as it is: it reads days before 2026-03-04 from the cold table, and is good until" in words
    )
    [document] = json.loads(CliRunner().invoke(app, ["view", "--json"]).stdout)
    assert (document["boundary_before"], document["problem"]) == ("2026-03-04T00:00:00.000000Z", REASON)
