"""Shows something again and again, in place where there is a terminal, until a person has seen enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from rich.console import Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from k2_offload.cli.console import screen, show_error, show_table
from k2_offload.core.errors import InvalidTablesFile, OffloadError


def watch_looks(
    look: Callable[[], Iterable[RenderableType]], every: float, pause: Callable[[float], None] = time.sleep
) -> None:
    """Look until Ctrl-C, which is no failure. A look that fails is told, and the next one tries again.

    :param every: seconds between the end of one look and the beginning of the next
    :raises InvalidTablesFile: another look would not help
    """
    try:
        if not screen.is_terminal:
            while True:
                _print_plain(look)
                pause(every)
        with Live(Text("looking …"), console=screen, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(Group(*_seen(look)), refresh=True)
                pause(every)
    except KeyboardInterrupt:
        return


def _seen(look: Callable[[], Iterable[RenderableType]]) -> list[RenderableType]:
    try:
        return [_fitting(each) for each in look()]
    except InvalidTablesFile:
        raise
    except OffloadError as error:
        return [Text(str(error), "red")]


def _print_plain(look: Callable[[], Iterable[RenderableType]]) -> None:
    try:
        for each in look():
            if isinstance(each, Table):
                show_table(each)
            else:
                screen.print(each, soft_wrap=True)
    except InvalidTablesFile:
        raise
    except OffloadError as error:
        show_error(str(error))


def _fitting(shown: RenderableType) -> RenderableType:
    """A table without the last columns that a narrow terminal has no room for: a number cut short is a wrong one."""
    if isinstance(shown, Table):
        unlimited = screen.options.update(max_width=1000)
        while len(shown.columns) > 1 and Measurement.get(screen, unlimited, shown).maximum > screen.width:
            shown.columns.pop()
    return shown
