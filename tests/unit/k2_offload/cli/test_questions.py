"""Who asks for JSON is shown nothing to agree to, so nobody is asked."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.cli import accept, adopt, heal, register, schema, verify, verify_sealed, watermark, watermark_set
from k2_offload.cli.main import app
from tests.model.world import TABLES

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
GAP = SimpleNamespace(kind="expired", window=SimpleNamespace(low=NOON, high=NOON), rows=1)
LOST = SimpleNamespace(gap=GAP, rows_left=7)
LOOK = SimpleNamespace(problems=[], refusal=None, window_id="w")
FOUND = SimpleNamespace(
    table=TABLES["bronze_a"], days=[], heals=[SimpleNamespace(scope=SimpleNamespace(day=NOON.date()))], problems=[]
)
REGISTRABLE = SimpleNamespace(name="bronze_a", chosen="a file", finding=None)
SKIP = SimpleNamespace(window="w", watermark=NOON, rows=7)
CHANGED = SimpleNamespace(seal=None, successor=SimpleNamespace(rows=7))


@pytest.mark.parametrize(
    ("module", "looks", "changes", "arguments"),
    [
        (accept, {"find_missed": [LOST]}, "accept_missed", ["accept", "bronze_a"]),
        (adopt, {"look": LOOK}, None, ["adopt", "bronze_a"]),
        (heal, {"_compare": [FOUND]}, "_run", ["heal"]),
        (register, {"look": REGISTRABLE}, "let_catalog_name", ["register", "bronze_a"]),
        (watermark_set, {"find_skip": SKIP}, "skip", ["watermark", "set", "bronze_a", "2026-03-01"]),
        (watermark, {"read_cold_table": None}, "accept", ["watermark", "rebuild", "bronze_a"]),
        (schema, {}, "stop_filling", ["schema", "bronze_a", "--stop-filling", "side"]),
        (
            verify_sealed,
            {"find_changed_day": CHANGED},
            "accept_changed_day",
            ["verify", "bronze_a", "--sealed", "--accept", "2026-03-04"],
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_json_alone_asks_nobody_and_changes_nothing(monkeypatch, module, looks, changes, arguments):
    @contextmanager
    def open_tiers():
        yield SimpleNamespace(tables=TABLES, ledger=SimpleNamespace(migrate=lambda: None))

    monkeypatch.setattr(verify if module is verify_sealed else module, "open_tiers", open_tiers)
    for name, found in looks.items():
        monkeypatch.setattr(module, name, lambda *_, found=found, **__: found)
    where = adopt.adoption if module is adopt else module
    monkeypatch.setattr(where, changes or "adopt", lambda *_, **__: pytest.fail("nobody has agreed"))
    asked = CliRunner().invoke(app, [*arguments, "--json"], input="y\n")
    assert (asked.exit_code, asked.stdout) == (2, ""), asked.output
    assert "--yes answers in advance. Nothing was changed." in asked.stderr
