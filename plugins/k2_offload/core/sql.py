"""ClickHouse SQL as text, safely: every name is quoted, every text escaped, every time a number."""

from __future__ import annotations

import re
from functools import reduce

from k2_offload.core.windows import Window, to_micros

_PART = re.compile(r"`(?:\\.|[^`\\])*`|'(?:\\.|[^'\\])*'|[^`']+", re.DOTALL)
"""A name in backquotes, a text in quotes, or what stands between them."""


def quote(identifier: str) -> str:
    """An identifier in backquotes."""
    escaped = identifier.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def qualified(name: str) -> str:
    """``database.table`` in backquotes: what follows the first dot is the table."""
    return ".".join(map(quote, name.split(".", 1)))


def spark_name(catalog: str) -> str:
    """A catalog's name in Spark's SQL, which quotes in another way: in backquotes where it needs them."""
    return catalog if re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", catalog) else f"`{catalog.replace('`', '``')}`"


def literal(text: str) -> str:
    """A string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


RESERVED = "k2_"
"""What names in queries begin with that are no columns; so no column may.

If a table's name in a query were a column's too, ClickHouse would take ``name.column`` for a part of that column.
"""

SOURCE = f"{RESERVED}source"
"""What every query calls the source."""


def source_column(name: str) -> str:
    """A column of the source: a SELECT list may give the same name to a cast."""
    return f"{SOURCE}.{quote(name)}"


def is_named(name: str, column: str = "name") -> str:
    """Whether a row of one of ClickHouse's system tables is about one table.

    :param name: ``database.table``
    :param column: where the system table keeps the latter: in most ``table``, in ``system.tables`` ``name``
    """
    database, _, table = name.partition(".")
    return f"database = {literal(database)} AND {column} = {literal(table)}"


def instant(micros: int | str) -> str:
    """A time.

    :param micros: microseconds since 1970 UTC, or a placeholder for :func:`fill`
    """
    return f"fromUnixTimestamp64Micro({micros}, 'UTC')"


def between(expression: str, window: Window) -> str:
    """Whether a time lies in ``[low, high)``."""
    return f"{expression} >= {instant(to_micros(window.low))} AND {expression} < {instant(to_micros(window.high))}"


def placeholder(name: str) -> str:
    """What stands in a text for a value that is not known yet; :func:`fill` puts that in."""
    return f"{{{name}}}"


def fill(text: str, **values: int) -> str:
    """Put numbers in for their placeholders. Braces around anything else are left alone, and all names in backquotes.

    :raises KeyError: if the text lacks a placeholder
    """
    for name in values:
        if placeholder(name) not in text:
            raise KeyError(f"no {placeholder(name)} in: {text}")

    def filled(part: re.Match[str]) -> str:
        if part[0].startswith("`"):
            return part[0]
        return reduce(lambda text, name: text.replace(placeholder(name), str(values[name])), values, part[0])

    return _PART.sub(filled, text)
