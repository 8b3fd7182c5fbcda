"""What a person reads of messages."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from k2_offload.cli import verify_offsets as command
from k2_offload.core.errors import InvalidCondition
from k2_offload.core.offsets import OffsetFinding, OffsetKind, OffsetRange, Partition
from k2_offload.core.windows import Window
from k2_offload.work.offsets import OffsetReport

DAY = Window(datetime(2026, 3, 4, tzinfo=UTC), datetime(2026, 3, 5, tzinfo=UTC))
BRONZE = SimpleNamespace(name="trades", layer="bronze")


def test_tables_of_another_layer_are_wrong_input():
    with pytest.raises(InvalidCondition, match="none was chosen"):
        command.verify_offsets(SimpleNamespace(ledger=None), [SimpleNamespace(layer="silver")], as_json=False)


def test_what_is_said_of_messages_that_came_again_and_of_days_that_are_gone(monkeypatch, capsys):
    again = OffsetFinding(Partition("t", 0), OffsetRange(3, 4), OffsetKind.REPEATED)
    report = OffsetReport("trades", kept=True, partitions=1, findings=(again,), removed=(DAY,))
    monkeypatch.setattr(command, "open_broker", lambda: None)
    monkeypatch.setattr(command, "LedgerOffsets", lambda _: SimpleNamespace(read_ends=lambda _: {}))
    monkeypatch.setattr(command, "compare_offsets", lambda *_: report)
    assert command.verify_offsets(SimpleNamespace(ledger=None), [BRONZE], as_json=False)
    said = capsys.readouterr().out
    assert (
        "trades: t[0]: offsets 3 to 4 (2): delivered more than once; bronze has it each time; silver and candles take "
        "a trade once as long as silver has it."
    ) in said
    assert f"trades: messages of trades in {DAY} were not looked for in bronze" in said
