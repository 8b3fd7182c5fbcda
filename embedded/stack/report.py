"""What the stack's commands show: a live list while services start, and a table of how they are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from embedded.stack.lifecycle import Listener, ServiceStatus

_COLOURS = {"up": "green", "down": "dim", "not answering": "red"}


class Progress:
    """A line per service, rewritten as it goes on; on anything but a terminal, a plain line per change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, tuple[str, float, float | None]] = {}

    def update(self, name: str, state: str) -> None:
        """Take note of a new state."""
        now = time.monotonic()
        _, since, _ = self._states.get(name, ("", now, None))
        ended = now if state in {"up", "down"} else None
        self._states[name] = (state, since, ended)
        if not self._console.is_terminal:
            self._console.print(f"{name}: {state}" + (f" ({now - since:.1f} s)" if ended else ""))

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, (state, since, ended) in self._states.items():
            mark = Text("✓", "green") if ended else Spinner("dots")
            table.add_row(
                mark, name, Text(state, _COLOURS.get(state, "")), f"{(ended or time.monotonic()) - since:.1f} s"
            )
        return table


@contextmanager
def progress(console: Console) -> Iterator[Listener]:
    """Show progress while the block runs; yields what to tell it to."""
    shown = Progress(console)
    if not console.is_terminal:
        yield shown.update
        return
    with Live(shown, console=console, refresh_per_second=8, transient=True):
        yield shown.update


def services_table(statuses: Sequence[ServiceStatus]) -> Table:
    """A row per service; fits 80 columns."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("service", "state", "pid", "address", "log"):
        table.add_column(heading, no_wrap=True)
    for each in statuses:
        state = Text(each.state, _COLOURS[each.state])
        table.add_row(each.name, state, str(each.pid or ""), each.address, each.log.name)
    table.caption, table.caption_justify = f"Logs are in {_short(statuses[0].log.parent)}.", "left"
    return table


def _short(path: Path) -> str:
    """A path as it would be typed here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
