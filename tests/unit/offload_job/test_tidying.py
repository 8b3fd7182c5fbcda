"""The order in which a cold table is tidied; its storage is left out."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from offload_job.maintenance import application
from offload_job.maintenance.application import MaintenanceJob


class Killed(BaseException):
    """The task's time is over."""


def test_a_day_that_is_never_rewritten_keeps_no_snapshot_and_no_file_from_going(monkeypatch):
    went = []
    storage = SimpleNamespace(
        folder=lambda: None,
        expire=lambda *_, **__: went.append("snapshots"),
        orphans=lambda *_: {"orphan": 1},
        remove=went.extend,
    )
    monkeypatch.setattr(application, "ColdTableWriter", lambda *_: SimpleNamespace(uuid="uuid"))
    monkeypatch.setattr(application, "Storage", lambda *_: storage)
    monkeypatch.setattr(application, "open_catalog", lambda *_: None)
    monkeypatch.setattr(MaintenanceJob, "spark", None)

    def rewrite(*_, **__):
        raise Killed

    monkeypatch.setattr(MaintenanceJob, "_rewrite", rewrite)
    job = MaintenanceJob(SimpleNamespace(catalog=SimpleNamespace(connection_id="c", name="k2")), None)
    planned = SimpleNamespace(
        table="trades", target="cold.trades", table_uuid="uuid", expire_before=None, orphans_before=None
    )
    with pytest.raises(Killed):
        job.tidy(planned, dry_run=False)
    assert went == ["snapshots", "orphan"]
