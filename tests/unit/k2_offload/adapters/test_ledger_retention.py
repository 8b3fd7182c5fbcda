"""One run at a time moves the partitions of a storage."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from k2_offload.adapters import ledger_retention
from k2_offload.adapters.ledger_retention import LedgerRetention
from k2_offload.core.errors import OtherRun


class FakeLedger:
    """A lock that is free after some attempts."""

    def __init__(self, answers):
        self.answers = iter(answers)

    @contextmanager
    def transaction(self):
        yield SimpleNamespace(execute=lambda *_: None, fetchone=lambda: (next(self.answers),))


@pytest.mark.parametrize(
    ("answers", "wait_seconds", "waited"),
    [([True], 0, 0), ([False], 0, None), ([False, False, True], 2, 2), ([False, False, False], 2, None)],
)
def test_the_lock_is_waited_for_as_long_as_told(monkeypatch, answers, wait_seconds, waited):
    slept = []
    monkeypatch.setattr(ledger_retention.time, "sleep", slept.append)
    retention = LedgerRetention(FakeLedger(answers))
    if waited is None:
        with pytest.raises(OtherRun), retention.alone("k2.t", wait_seconds):
            pass
        assert len(slept) == wait_seconds
    else:
        with retention.alone("k2.t", wait_seconds):
            assert slept == [1] * waited
