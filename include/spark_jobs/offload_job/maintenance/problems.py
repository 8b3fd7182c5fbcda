"""What goes wrong while one table is tidied, and what is done all the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from k2_offload.adapters.log_lines import about
from k2_offload.core.day_comparison import day_window
from k2_offload.core.errors import AuditFailed, OffloadError, StaleWindow
from k2_offload.core.text import show_days
from k2_offload.core.windows import Window
from offload_job.java_errors import first_line

log = logging.getLogger(__name__)


class Problems:
    """Of one table; each is logged at once.

    :param table: its name in messages
    :ivar differences: those that an audit has found
    """

    def __init__(self, table: str) -> None:
        self.table = table
        self.all: list[str] = []
        self.differences: list[str] = []

    def tell(self, error: OffloadError) -> None:
        """Keep one; once, if it comes again."""
        log.error("%s", error, extra=about("maintenance", self.table))
        if str(error) not in self.all:
            self.all.append(str(error))
            if isinstance(error, AuditFailed):
                self.differences.append(str(error))

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever is raised in the block is kept, and goes no further: one step must not stop the others."""
        try:
            yield
        except OffloadError as error:
            self.tell(error)
        except Exception:
            problem = f"{self.table}: unexpected, see the job's log. No row is lost; the next run tries again."
            log.exception("%s", problem, extra=about("maintenance", self.table))
            self.all.append(problem)


def rewrite_or_each_alone(days: Sequence[date], rewrite: Callable[[Sequence[date]], None], problems: Problems) -> int:
    """Rewrite days in one snapshot; if anything is in the way of one of them, each by itself.

    :param days: in their order
    :param rewrite: rewrites days in one snapshot
    :returns: how many days were rewritten
    """
    if len(days) > 1:
        try:
            rewrite(days)
        except Exception as error:  # whatever it is may be in the way of one day alone, which then says so
            if isinstance(error, AuditFailed):
                problems.tell(error)  # a difference is red, also one that does not come again
            log.warning(
                "%s %s: rewritten one by one now, for together: %s", problems.table, show_days(days), first_line(error),
                extra=about("rewrite", problems.table, window_of(days)), exc_info=not isinstance(error, OffloadError),
            )  # fmt: skip
        else:
            return len(days)
    done = 0
    for day in days:
        with problems.told():
            try:
                rewrite([day])
                done += 1
            except StaleWindow as stale:
                log.info("%s", stale, extra=about("rewrite", problems.table, day_window(day)))
    return done


def window_of(days: Sequence[date]) -> Window:
    """From the first day to the last one.

    :param days: in their order, one at least
    """
    return Window(day_window(days[0]).low, day_window(days[-1]).high)
