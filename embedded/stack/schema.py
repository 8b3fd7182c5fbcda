"""Applies the ClickHouse schema: tables, parsing views and candles."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

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


def apply_schema(client: Client, directory: Path = SCHEMA_DIRECTORY) -> None:
    """Create every table and view that is missing, in the client's database, which must exist.

    What exists already is left as it is, so this may be repeated. Scripts run in the order of their names.

    :raises clickhouse_driver.errors.Error: ClickHouse refused a statement or cannot be reached; the statements before
        it have taken effect, and repeating the call continues after them.
    """
    for script in sorted(directory.glob("*.sql")):
        for statement in split_statements(script.read_text(encoding="utf-8")):
            client.execute(statement)
