"""Options and arguments that several commands have, and the question that ``--yes`` answers."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated

import typer

from k2_offload.cli.console import FINDING, errors
from k2_offload.core.errors import InvalidCondition
from k2_offload.core.tables import Layer
from k2_offload.core.windows import parse_instant

_FIRST_DAY, _LAST_DAY = date(1900, 1, 1), date(2299, 12, 31)
"""ClickHouse knows no others."""

TableArgument = Annotated[str, typer.Argument(help="The table's name in the table file.", show_default=False)]
TablesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="TABLES", help="Which tables; all when none is named.")
]
LayerOption = Annotated[Layer | None, typer.Option(help="Only the tables of this layer.", show_default=False)]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def parse_time_argument(text: str | datetime) -> datetime:
    """A time from the command line; one without a zone is UTC, as everywhere here.

    :raises typer.BadParameter: if it is no time
    """
    if isinstance(text, datetime):  # as click passes a value that it has converted before
        return text
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def parse_day(text: str | date) -> date:
    """A day from the command line.

    :raises typer.BadParameter: if it is none, or one that ClickHouse does not know
    """
    if isinstance(text, date):  # as click passes a value that it has converted before
        return text
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no day, such as 2026-03-01") from None
    if not _FIRST_DAY <= day <= _LAST_DAY:
        raise typer.BadParameter(f"'{text}' is not from {_FIRST_DAY} to {_LAST_DAY}, as all days of ClickHouse are")
    return day


def confirmed(question: str, *, as_json: bool) -> bool:
    """Whether a person agrees.

    :param as_json: whether what the question is about was not shown, so that it must not be asked
    :raises InvalidCondition: then
    :raises typer.Exit: if the person does not agree, or there is nobody to ask
    """
    if as_json:
        raise InvalidCondition(f"--json asks nobody ({question}): --yes answers in advance. Nothing was changed.")
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        errors.print()
        agreed = False
    if not agreed:
        errors.print("Nothing was changed. --yes answers in advance.")
        raise typer.Exit(FINDING)
    return True
