"""Only what may be better a moment later is tried again."""

from __future__ import annotations

import pytest

from k2_offload.adapters import retry
from k2_offload.core.errors import AuditFailed, Busy, OffloadError, Overloaded, Refused, StaleWindow, Unreachable
from k2_offload.core.limits import STEP_ATTEMPTS


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 0)


class Step:
    def __init__(self, error, failures):
        self.error, self.failures, self.calls = error, failures, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error
        return "done"


@pytest.mark.parametrize(
    "error",
    [Unreachable("ClickHouse", "c", "gone"), Overloaded(241, "memory"), AuditFailed("t")],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_tried_until_it_does(error):
    step = Step(error, STEP_ATTEMPTS - 1)
    assert retry.with_retries(step) == "done"
    assert step.calls == STEP_ATTEMPTS


def test_the_last_failure_is_raised_as_it_is():
    step = Step(AuditFailed("24 rows"), STEP_ATTEMPTS)
    with pytest.raises(AuditFailed, match="24 rows"):
        retry.with_retries(step)
    assert step.calls == STEP_ATTEMPTS


@pytest.mark.parametrize(
    "error",
    [Refused("ClickHouse", "c", "no"), Busy("c"), StaleWindow("t"), OffloadError("t"), ValueError("t")],
    ids=lambda error: type(error).__name__,
)
def test_anything_else_is_raised_at_once(error):
    step = Step(error, 1)
    with pytest.raises(type(error)):
        retry.with_retries(step)
    assert step.calls == 1
