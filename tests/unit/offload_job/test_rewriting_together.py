"""Days that are rewritten together: what becomes of the others if something is in the way of one."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.core.errors import AuditFailed, OffloadError, StaleWindow
from k2_offload.core.maintenance import TOGETHER_BYTES, TOGETHER_FILES
from k2_offload.core.maintenance_plan import PlannedMaintenance
from offload_job.maintenance import application
from offload_job.maintenance.application import MaintenanceJob
from offload_job.scan_tasks import ScannedFile

FIRST = date(2026, 3, 4)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
AFTER = datetime(2026, 6, 4, tzinfo=UTC)
PLANNED = PlannedMaintenance(
    table="trades",
    target="cold.trades",
    table_uuid="uuid",
    partition_column="at",
    sort_columns=(),
    target_file_bytes=2**29,
    closed_before=AFTER,
    expire_before=AFTER,
    orphans_before=AFTER,
)


class Job(MaintenanceJob):
    """Of a table that is not there: it is asked which days to rewrite, and fails as it is told."""

    def __init__(self, fails):
        self.fails = fails
        self.rewritten = []

    def _rewrite_days(self, _planned, old, _cold):
        if error := self.fails(old.days):
            raise error
        self.rewritten.append(old.days)
        assert {file.day for file in old.files} == set(old.days)


def rewrite(monkeypatch, fails, days=DAYS, files=10, size_bytes=1_000, closed_before=AFTER):
    found = [ScannedFile(f"{day}-{number}", day, 1, size_bytes, 0) for day in days for number in range(files)]
    tasks = SimpleNamespace(files=lambda: found)
    monkeypatch.setattr(application, "tasks_of_days", lambda *_: (7, tasks))
    job, done = Job(fails), application._Done("trades")
    planned = PlannedMaintenance(**{**vars(PLANNED), "closed_before": closed_before})
    return job, job._rewrite(planned, None, done, dry_run=False), done.problems


def test_small_days_are_rewritten_at_once(monkeypatch):
    assert rewrite(monkeypatch, lambda _: None)[1:] == (3, [])
    job, days, _ = rewrite(monkeypatch, lambda _: None)
    assert (job.rewritten, days) == ([tuple(DAYS)], 3)


def test_a_backlog_is_cut_into_parts_that_a_killed_run_can_do_again(monkeypatch):
    backlog = [FIRST + timedelta(days=number) for number in range(90)]
    job, days, _ = rewrite(monkeypatch, lambda _: None, backlog, files=96)
    assert days == 90
    assert 2 <= len(job.rewritten) <= 10
    assert max(len(part) * 96 for part in job.rewritten) <= TOGETHER_FILES
    assert [day for part in job.rewritten for day in part] == backlog
    job, *_ = rewrite(monkeypatch, lambda _: None, backlog[:4], size_bytes=TOGETHER_BYTES // 10)
    assert job.rewritten == [(day,) for day in backlog[:4]]


def test_a_day_that_windows_still_come_to_is_alone(monkeypatch):
    closed = datetime(2026, 3, 6, tzinfo=UTC)
    job, days, _ = rewrite(monkeypatch, lambda _: None, files=40, closed_before=closed)
    assert (job.rewritten, days) == ([tuple(DAYS[:2]), (DAYS[2],)], 3)


@pytest.mark.parametrize("error", [OffloadError("trades 2026-03-05: away"), RuntimeError("odd")])
def test_what_is_in_the_way_of_one_day_stops_no_other(monkeypatch, error):
    job, days, problems = rewrite(monkeypatch, lambda days: error if DAYS[1] in days else None)
    assert (job.rewritten, days) == ([(DAYS[0],), (DAYS[2],)], 2)
    [problem] = problems
    assert problem.startswith("trades")


def test_a_day_that_was_healed_meanwhile_is_left_and_nothing_is_red(monkeypatch):
    job, days, problems = rewrite(monkeypatch, lambda days: StaleWindow("healed") if DAYS[1] in days else None)
    assert (job.rewritten, days, problems) == ([(DAYS[0],), (DAYS[2],)], 2, [])


def test_a_difference_is_red_also_if_it_does_not_come_again(monkeypatch):
    differs = AuditFailed("trades 2026-03-05: with another content")
    _, days, problems = rewrite(monkeypatch, lambda days: differs if len(days) > 1 else None)
    assert (days, problems) == (3, [str(differs)])
    _, days, problems = rewrite(monkeypatch, lambda days: differs if DAYS[1] in days else None)
    assert (days, problems) == (2, [str(differs)]), "told once"
