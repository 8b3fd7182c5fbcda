"""Applies the ClickHouse schema: tables, parsing views and candles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from clickhouse_driver.errors import ErrorCodes, ServerException

if TYPE_CHECKING:
    from clickhouse_driver import Client

SCHEMA_DIRECTORY = Path(__file__).parents[2] / "include" / "sql" / "clickhouse"

_TOKEN = re.compile(
    r"""
      '(?:[^'\\]|\\.)*'             # text; '' inside it reads as two texts in a row, which splits no differently
    | "(?:[^"\\]|\\.)*"             # quoted name
    | `(?:[^`\\]|\\.)*`             # quoted name
    | (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<end> ; )
    | .
    """,
    re.DOTALL | re.VERBOSE,
)


def split_statements(script: str) -> Iterator[str]:
    """The statements of an SQL script, without the comments around and inside them and without their semicolons.

    Semicolons inside texts, quoted names and comments end nothing. Empty statements are left out.
    """
    statement = ""
    for token in _TOKEN.finditer(script + ";"):
        if token["comment"]:
            statement += " "
        elif not token["end"]:
            statement += token[0]
        elif statement.strip():
            yield statement.strip()
            statement = ""


_CREATED = re.compile(r"CREATE\s+(?:TABLE|MATERIALIZED\s+VIEW|VIEW)\s+IF\s+NOT\s+EXISTS\s+(\S+)", re.IGNORECASE)


def apply_schema(client: Client, directory: Path = SCHEMA_DIRECTORY) -> None:
    """Create every table and view that is missing, in the client's database, which must exist.

    What exists already is left as it is, so this may be repeated. Scripts run in the order of their names.

    :raises clickhouse_driver.errors.Error: ClickHouse refused a statement or cannot be reached; the statements before
        it have taken effect, and repeating the call continues after them.
    """
    for script in sorted(directory.glob("*.sql")):
        for statement in split_statements(script.read_text(encoding="utf-8")):
            _execute(client, statement)


def _execute(client: Client, statement: str) -> None:
    try:
        client.execute(statement)
    except ServerException as error:
        # chDB 26.9 reports this for each Kafka table, which it has made and which works.
        name = _CREATED.match(statement)
        if error.code != ErrorCodes.LOGICAL_ERROR or not name or not client.execute(f"EXISTS {name[1]}")[0][0]:
            raise
