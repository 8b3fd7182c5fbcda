"""A dry run does not bring the ledger's schema up to date; what it leaves alone besides is tested on a real ledger."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.cli import accept, adopt, heal, register, watermark, watermark_set
from k2_offload.cli.main import app
from k2_offload.core.errors import OffloadError
from tests.model.world import TABLES


@pytest.mark.parametrize(
    ("module", "looks", "arguments"),
    [
        (accept, "find_missed", ["accept", "bronze_a"]),
        (adopt, "look", ["adopt", "bronze_a"]),
        (heal, "reconcile", ["heal"]),
        (register, "look", ["register", "bronze_a"]),
        (watermark_set, "find_skip", ["watermark", "set", "bronze_a", "2026-03-01"]),
        (watermark, "read_cold_table", ["watermark", "rebuild", "bronze_a"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_dry_run_migrates_nothing(monkeypatch, module, looks, arguments):
    migrations = []

    @contextmanager
    def open_tiers():
        yield SimpleNamespace(tables=TABLES, ledger=SimpleNamespace(migrate=lambda: migrations.append(1)))

    def look(*_, **options):
        if module is heal:
            assert options["keep"] == ("--dry-run" not in run)
        raise OffloadError("looked")

    monkeypatch.setattr(module, "open_tiers", open_tiers)
    monkeypatch.setattr(module, looks, look)
    for run, migrated in (([*arguments, "--dry-run"], 0), (arguments, 1)):
        assert "looked" in CliRunner().invoke(app, run).stderr
        assert len(migrations) == migrated
