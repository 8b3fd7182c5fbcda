"""Tries again where a moment later may be enough."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from k2_offload.core.errors import AuditFailed, Overloaded, Unreachable
from k2_offload.core.limits import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, STEP_ATTEMPTS

if TYPE_CHECKING:
    from tenacity import RetryCallState

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def with_retries(step: Callable[[], Result]) -> Result:
    """Run a step up to :data:`STEP_ATTEMPTS` times, with growing random pauses.

    Only a service that does not answer or has too much to do, and rows that moved during the export, are worth another
    try; anything else is raised at once. The step must be safe to repeat, as every step of a cycle is.

    :raises OffloadError: the last failure
    """
    # Here, because DAG files import this module and must parse fast.
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter  # noqa: PLC0415

    retrying = Retrying(
        stop=stop_after_attempt(STEP_ATTEMPTS),
        wait=wait_exponential_jitter(multiplier=FIRST_PAUSE_SECONDS, max=LONGEST_PAUSE_SECONDS),
        retry=retry_if_exception_type((Unreachable, Overloaded, AuditFailed)),
        before_sleep=_say,
        reraise=True,
    )
    return retrying(step)


def _say(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    log.warning("Trying again in %.0f s, attempt %d failed: %s", state.upcoming_sleep, state.attempt_number, error)
