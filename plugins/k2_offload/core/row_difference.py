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
    """Keys of the cold side that are older in the warm side, or stand on either not once."""
    of_warm, of_cold = _versions(warm), _versions(cold)
    return sum(not _kept(of_warm.get(key, []), versions) for key, versions in of_cold.items())


def _versions(rows: Iterable[HashedRow]) -> Mapping[int, list[int | None]]:
    versions: dict[int, list[int | None]] = {}
    for row in rows:
        versions.setdefault(row.key, []).append(row.version)
    return versions


def _kept(warm: list[int | None], cold: list[int | None]) -> bool:
    if len(warm) != 1 or len(cold) != 1:
        return False
    [newer], [older] = warm, cold
    return newer is not None and older is not None and newer >= older


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
