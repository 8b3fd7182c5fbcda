"""What the commands share: the screen, numbers, and errors without stack traces."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from k2_offload.core.errors import InvalidTablesFile, OffloadError

screen = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

UNKNOWN = "\N{EN DASH}"
FINDING = 1
BAD_INPUT = 2

Parameters = ParamSpec("Parameters")
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Tables = Annotated[list[str] | None, typer.Argument(help="Which tables; all when none is named.", show_default=False)]
Layer = Annotated[str | None, typer.Option(help="Only this layer: bronze, silver or gold.", show_default=False)]


def command(function: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Turn expected errors into one message and an exit code, and keep Airflow's chatter off the screen."""

    @wraps(function)
    def wrapped(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        _silence()
        try:
            function(*arguments, **options)
        except InvalidTablesFile as error:
            errors.print(f"[red]✗[/red] {error}", soft_wrap=True)
            raise typer.Exit(BAD_INPUT) from None
        except OffloadError as error:
            errors.print(f"[red]✗[/red] {error}", soft_wrap=True)
            raise typer.Exit(FINDING) from None

    return wrapped


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(value, indent=2))


def number_table(title: str, names: list[str], numbers: list[str], *, names_after: list[str] | None = None) -> Table:
    """A table whose columns of numbers are aligned to the right."""
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0)
    )
    for name in names:
        table.add_column(name, no_wrap=True)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    for name in names_after or []:
        table.add_column(name, no_wrap=True)
    return table


def show_table(table: Table) -> None:
    """Print a table; where the terminal is too narrow its lines run on: a number cut short is a wrong number."""
    width = Measurement.get(screen, screen.options.update(max_width=1000), table).maximum
    Console(highlight=False, width=max(width, screen.width)).print(table, crop=False)


def show_number(value: int | None) -> str:
    """With thousands separated; a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,}"


def show_time(time: datetime | None) -> str:
    """UTC to the second; a dash for what is not known."""
    return UNKNOWN if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def show_duration(duration: timedelta | None) -> str:
    """Hours, minutes and seconds; a dash for what is not known."""
    if duration is None:
        return UNKNOWN
    minutes, seconds = divmod(round(duration.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """A spinner while something runs (nothing when not a terminal); yields a function that changes its text."""
    with errors.status(text) as status:
        yield status.update


def _silence() -> None:
    logging.disable(logging.ERROR)
    import structlog  # noqa: PLC0415 - part of Airflow, which --help must not load

    class Silent:
        def __getattr__(self, _: str) -> Callable[..., Any]:
            return lambda *_, **__: None

    structlog.configure(logger_factory=lambda *_: Silent(), cache_logger_on_first_use=False)
