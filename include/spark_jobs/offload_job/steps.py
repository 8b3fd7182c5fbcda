"""Tells the phases of one window, day or range in the log, and how long each took."""

from __future__ import annotations

import logging
import time

from k2_offload.adapters.log_lines import about
from k2_offload.core.windows import Window


class Steps:
    """One attempt; the first phase begins now.

    :param window: half-open; of a day, that day
    :param name: what to call it; its bounds when left out
    """

    def __init__(self, log: logging.Logger, table: str, window: Window, name: object = None) -> None:
        self._log = log
        self._table = table
        self._window = window
        self._name = name or window
        self._last = time.monotonic()

    def done(self, phase: str, text: str, **numbers: float) -> None:
        """A phase has ended, and the next one begins.

        :param text: what was done, with the numbers
        """
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        extra = about(phase, self._table, self._window, **numbers, seconds=round(seconds, 3))
        self._log.info("%s %s: %s in %.1f s", self._table, self._name, text, seconds, extra=extra)
