"""What the commands share: the screen, numbers, and errors without stack traces."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
from rich.table import Table

from k2_offload.core.errors import InvalidCondition, InvalidTablesFile, OffloadError
from k2_offload.core.windows import Window, format_time

screen = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

PASSED = "[green]✓[/green]"
FAILED = "[red]✗[/red]"
FINDING = 1
BAD_INPUT = 2

_QUIET_SECONDS = 3
"""What is done sooner needs no line of progress in a log, and longer work one so often."""

Parameters = ParamSpec("Parameters")
Item = TypeVar("Item")


def command(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turn expected errors into one message and an exit code, and keep Airflow's chatter off the screen."""

    @wraps(function)
    def wrapped(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        silence_airflow()
        try:
            function(*arguments, **options)
        except OffloadError as error:
            show_error(str(error))
            raise typer.Exit(
                BAD_INPUT if isinstance(error, (InvalidCondition, InvalidTablesFile)) else FINDING
            ) from None

    return wrapped


def show_error(message: str) -> None:
    """One message on standard error, on one line however long it is, so that it can be searched and copied."""
    errors.print(f"{FAILED} {escape(message)}", soft_wrap=True)


def show_found(notes: Iterable[str], findings: Iterable[str]) -> None:
    """What is no fault, and then each fault."""
    for note in notes:
        screen.print(escape(note), soft_wrap=True)
    for finding in findings:
        show_error(finding)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2))


def number_table(names: Sequence[str], numbers: Sequence[str], names_after: Sequence[str] = ()) -> Table:
    """A table whose columns of numbers are aligned to the right, between columns of text.

    Headings are text; what is added to its rows is rich's markup, as marks and colours are.
    """
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(escape(name), no_wrap=True)
    for number in numbers:
        table.add_column(escape(number), justify="right", no_wrap=True)
    for name in names_after:
        table.add_column(escape(name), no_wrap=True)
    return table


def show_table(table: Table) -> None:
    """Print a table; in a narrow terminal its lines run on, because a number cut short is a wrong number."""
    width = Measurement.get(screen, screen.options.update(max_width=1000), table).maximum
    Console(highlight=False, width=max(width, screen.width)).print(table, crop=False)


def with_progress(doing: str, items: Sequence[Item]) -> Iterator[Item]:
    """The items one by one, with a bar on standard error; a plain line now and then where that is not a terminal."""
    if errors.is_terminal:
        with new_progress() as bar:
            task = bar.add_task(doing, total=len(items))
            for item in items:
                bar.update(task, description=escape(f"{doing} {item}"))
                yield item
                bar.advance(task)
        return
    told = time.monotonic()
    for position, item in enumerate(items, start=1):
        if time.monotonic() - told > _QUIET_SECONDS:
            told = time.monotonic()
            errors.print(escape(f"{doing} {item} ({position} of {len(items)})"), soft_wrap=True)
        yield item


def new_progress(*more: ProgressColumn) -> Progress:
    """A bar on standard error that counts and disappears at the end; nothing where that is no terminal.

    What it is at comes last: names of different lengths would move the bar.

    :param more: columns after the count
    """
    doing = TextColumn("{task.description}")
    columns = (SpinnerColumn(), BarColumn(bar_width=20), MofNCompleteColumn(), *more, doing)
    return Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal)


def window_document(window: Window | None) -> dict[str, str | None]:
    """Its half-open bounds for JSON."""
    return {"low": format_time(window.low) if window else None, "high": format_time(window.high) if window else None}


def silence_airflow() -> None:
    """Airflow logs and warns about itself when it is loaded; what concerns the operator comes as an error."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    import structlog  # noqa: PLC0415 - part of Airflow, which --help must not load

    class Silent:
        def __getattr__(self, _: str) -> Callable[..., Any]:
            return lambda *_, **__: None

    structlog.configure(logger_factory=lambda *_: Silent(), cache_logger_on_first_use=False)
