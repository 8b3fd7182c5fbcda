"""Errors travel: a Spark executor sends them to the driver."""

from __future__ import annotations

import pickle

import pytest

from k2_offload.core.errors import AuditFailed, Busy, Overloaded, Refused, Unreachable, UnreadableTable


@pytest.mark.parametrize(
    "error",
    [
        AuditFailed("t: 1"),
        Unreachable("ClickHouse", "c", "gone"),
        Refused("ClickHouse", "c", "no"),
        Busy("ledger"),
        Overloaded(241, "memory"),
        UnreadableTable("t", "c", "missing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_its_journey(error):
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert (type(arrived), str(arrived)) == (type(error), str(error))
