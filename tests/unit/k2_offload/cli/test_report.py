"""The report, by its task and its command: what there is, is written; what is missing makes it red."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.adapters.settings import Settings
from k2_offload.airflow_tasks import report as task
from k2_offload.cli import report as command
from k2_offload.cli.main import app
from k2_offload.core.errors import OffloadError, OldLedger, Unreachable
from k2_offload.core.lag import USUAL_PAUSE
from k2_offload.work import report
from k2_offload.work.status import TableStatus
from tests.model.world import TABLES

NOW = datetime(2026, 3, 4, 1, tzinfo=UTC)
AWAY = Unreachable("ClickHouse", "k2_clickhouse", "refused")


class LookedAt:
    """A ledger that is only read: it has no ``migrate``."""

    def __init__(self):
        self.error = None

    def read_day(self, _):
        if self.error is not None:
            raise self.error
        return {}, []

    def read_tables(self):
        return {}

    def read_gaps(self):
        return {}

    def read_comparisons(self):
        return {}


@pytest.fixture
def services(monkeypatch, on_record, tmp_path):  # noqa: ARG001 - the ledger holds nothing
    found = SimpleNamespace(ledger=LookedAt(), status=None)

    @contextmanager
    def open_tiers():
        yield SimpleNamespace(
            tables=TABLES, ledger=found.ledger, now=lambda: NOW, load_cold=lambda _: None, pause=USUAL_PAUSE
        )

    def read_status(_, table, record, **__):
        if found.status is not None:
            raise found.status
        return TableStatus(table, record, late={})

    for module in (task, command):
        monkeypatch.setattr(module, "open_tiers", open_tiers)
    monkeypatch.setattr(task, "load_settings", lambda: Settings(report_folder=str(tmp_path)))
    monkeypatch.setattr(report, "read_status", read_status)
    return found


def run(at=NOW, day=None):
    context = {"params": {"day": day}, "dag_run": SimpleNamespace(run_after=at)}
    task.ReportOperator(task_id="report").execute(context)


@pytest.mark.usefixtures("services")
def test_all_is_there(tmp_path):
    run()
    assert [file.name for file in tmp_path.iterdir()] == ["k2-2026-03-03.html"]
    assert CliRunner().invoke(app, ["report"]).exit_code == 0


@pytest.mark.usefixtures("services")
@pytest.mark.parametrize(
    ("at", "day", "reported"),
    [
        (NOW - timedelta(days=1), None, "2026-03-02"),  # cleared a day later
        (datetime(2026, 3, 3, 0, 50, tzinfo=timezone(timedelta(hours=2))), None, "2026-03-01"),
        (NOW - timedelta(days=1), "2026-03-03", "2026-03-03"),
    ],
)
def test_a_run_reports_on_the_day_before_its_own_time_whenever_it_is_tried(tmp_path, at, day, reported):
    run(at, day)
    assert [file.name for file in tmp_path.iterdir()] == [f"k2-{reported}.html"]


@pytest.mark.parametrize("part", ["ledger", "status"])
def test_where_a_part_is_missing_the_file_is_written_and_the_attempt_has_failed(services, tmp_path, part):
    if part == "ledger":
        services.ledger.error = OldLedger(7)
    else:
        services.status = AWAY
    with pytest.raises(OffloadError, match="lacks a part of: bronze_a"):
        run()
    assert [file.name for file in tmp_path.iterdir()] == ["k2-2026-03-03.html"]
    for arguments in (["report"], ["report", "--json"]):
        assert CliRunner().invoke(app, arguments).exit_code == 1
