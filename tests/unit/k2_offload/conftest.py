"""What unit tests of several folders share."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from k2_offload.work import records


@pytest.fixture
def on_record(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets what the ledger holds of sealed days and of messages, by table: nothing, until it is called."""

    def hold(sealed=None, messages=None):
        monkeypatch.setattr(records, "LedgerSeals", lambda _: SimpleNamespace(read_sealed_days=lambda: sealed or {}))
        monkeypatch.setattr(records, "LedgerOffsets", lambda _: SimpleNamespace(read=lambda: messages or {}))

    hold()
    return hold
