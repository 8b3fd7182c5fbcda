"""Shows how far a feed has come: a moving bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

_SECONDS_PER_LINE = 5.0


class FeedProgress:
    """A context manager; ``total`` is in whatever unit ``advance_to`` counts, None when there is no end to see."""

    def __init__(self, console: Console, title: str, total: float | None) -> None:
        self._console = console
        self._total = total
        self._line_due = time.monotonic() + _SECONDS_PER_LINE
        self._bar = Progress(
            TextColumn(title),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[trades]:,} trades"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task(title, total=total, trades=0)
        self._title = title

    def __enter__(self) -> FeedProgress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance_to(self, position: float, trade_count: int) -> None:
        """Show ``position`` out of the total, and the trades inserted so far."""
        self._bar.update(self._task, completed=position, trades=trade_count)
        if not self._console.is_terminal and time.monotonic() >= self._line_due:
            share = f", {position / self._total:.0%}" if self._total else ""
            self._console.print(f"{self._title}: {trade_count:,} trades{share}")
            self._line_due = time.monotonic() + _SECONDS_PER_LINE
