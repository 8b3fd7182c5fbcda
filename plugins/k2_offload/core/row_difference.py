"""Which rows only one side of a comparison holds, told by their hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class HashedRow(NamedTuple):
    """A row, as far as it is looked at.

    :param content: hash of all its columns
    :param micros: its time, in microseconds since 1970 UTC
    :param key: hash of the columns that name it
    :param version: of a row that has versions
    """

    content: int
    micros: int
    key: int
    version: int | None = None


@dataclass(frozen=True)
class Surplus:
    """How often more one side holds a row than the other.

    :param times: negative for the cold side
    """

    row: HashedRow
    times: int


def surpluses(warm: Iterable[HashedRow], cold: Iterable[HashedRow]) -> list[Surplus]:
    """The rows that one side holds more often."""
    times: dict[int, int] = {}
    rows: dict[int, HashedRow] = {}
    for side, sign in ((warm, 1), (cold, -1)):
        for row in side:
            times[row.content] = times.get(row.content, 0) + sign
            rows.setdefault(row.content, row)
    return [Surplus(rows[content], surplus) for content, surplus in times.items() if surplus]


def count_shrunk(warm: Iterable[HashedRow], cold: Iterable[HashedRow]) -> int:
    """Keys of the cold side that the warm side does not keep, see :func:`k2_offload.core.day_queries.shrunk_rows`."""
    of_warm, of_cold = _by_key(warm), _by_key(cold)
    return sum(not _kept(of_warm.get(key, []), rows) for key, rows in of_cold.items())


def _by_key(rows: Iterable[HashedRow]) -> Mapping[int, list[HashedRow]]:
    by_key: dict[int, list[HashedRow]] = {}
    for row in rows:
        by_key.setdefault(row.key, []).append(row)
    return by_key


def _kept(warm: list[HashedRow], cold: list[HashedRow]) -> bool:
    if len(warm) != 1 or len(cold) != 1:
        return False
    [after], [before] = warm, cold
    if after.version is None or before.version is None:
        return False
    return after.version > before.version or after.content == before.content


def pick(found: Iterable[Surplus], limit: int) -> Iterator[tuple[Surplus, bool]]:
    """Some of the rows that differ, in the order of their times, and whether each is a version of a row that changed.

    :param limit: of rows of each side
    """
    ordered = sorted(found, key=lambda each: (each.row.micros, each.row.key, each.times))
    keys = [{each.row.key for each in ordered if each.times * sign > 0} for sign in (1, -1)]
    left = {True: limit, False: limit}
    for each in ordered:
        if left[each.times > 0] > 0:
            left[each.times > 0] -= 1
            yield each, each.row.key in keys[0] & keys[1]
