"""A look at the services that all requests share, so that no number of readers makes it more frequent."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from k2_offload.core.errors import OffloadError
from k2_offload.core.limits import LOOK_REST, PAGE_PATIENCE_SECONDS, PAGE_SECONDS

log = logging.getLogger(__name__)

Value = TypeVar("Value")


def start_thread(run: Callable[[], None]) -> None:
    """In the background; a service that hangs must not keep the server from ending."""
    threading.Thread(target=run, name="k2-page", daemon=True).start()


@dataclass(frozen=True)
class Look(Generic[Value]):
    """What is known.

    :param value: of the last look that succeeded; ``None`` before the first
    :param age_seconds: of the value
    :param pending_seconds: how long the look has taken that goes on now; zero if none does
    :param problem: why the last look failed
    :param last_seconds: how long the look took that ended last; zero before the first
    """

    value: Value | None = None
    age_seconds: float = 0.0
    pending_seconds: float = 0.0
    problem: str | None = None
    last_seconds: float = 0.0

    @property
    def is_stuck(self) -> bool:
        """Whether a look goes on for so long that a service may not answer: not if the one before took as long."""
        return self.pending_seconds > 2 * max(PAGE_SECONDS, self.last_seconds)


class Shared(Generic[Value]):
    """Reads in the background, one look at a time, and never more often than every :data:`PAGE_SECONDS`.

    :param read: one look
    :param start: runs it in the background
    """

    def __init__(
        self,
        read: Callable[[], Value],
        *,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = start_thread,
    ) -> None:
        self._read = read
        self._clock = clock
        self._start = start
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._value: Value | None = None
        self._read_at = 0.0
        self._last_seconds = 0.0
        self._problem: str | None = None
        self._started_at: float | None = None
        self._next = float("-inf")

    def look(self, patience_seconds: float = PAGE_PATIENCE_SECONDS) -> Look[Value]:
        """What is known now; asks for more in the background if it is old.

        :param patience_seconds: how long to wait for the very first look to end
        """
        with self._lock:
            now = self._clock()
            due = now >= self._next
            starts = due and self._started_at is None
            if starts:
                self._started_at = now
        if starts:
            try:
                self._start(self._run)
            except RuntimeError:  # no thread to be had; the next one who asks tries again
                with self._lock:
                    self._started_at = None
                raise
        self._ended.wait(patience_seconds)
        with self._lock:
            now = self._clock()
            pending = now - self._started_at if self._started_at is not None else 0.0
            return Look(self._value, now - self._read_at, pending, self._problem, self._last_seconds)

    def _run(self) -> None:
        value, problem, began = None, None, self._clock()
        try:
            value = self._read()
        except OffloadError as error:
            problem = str(error)
        except Exception:
            log.exception("K2's page could not be read")
            problem = "An unexpected error; the log of Airflow's API server has it. No row is affected by this page."
        with self._lock:
            ended = self._clock()
            self._next = max(began + PAGE_SECONDS, ended + LOOK_REST * (ended - began))
            if problem is None:
                self._value, self._read_at = value, ended
            self._problem, self._started_at, self._last_seconds = problem, None, ended - began
        self._ended.set()
