"""Which metadata file a catalog should name for a cold table: each of them is the whole table, as it was then.

A commit writes its metadata file before the catalog names it. So the folder also has files that no catalog has ever
named: of commits that were refused, or whose connection broke. Such a file follows what the catalog named then, and no
other file follows it. Hence: what a catalog names and can be read gives way only to what follows it; where it names
nothing, the line with the most commits is the one that has gone on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from k2_offload.core.exactly_once import FIRST_WATERMARK


@dataclass(frozen=True)
class TableState:
    """A cold table as one of its metadata files says.

    :param metadata_file: URI
    :param sequence_number: of the last commit to the table's data
    :param watermark: the end of its newest window; ``None`` if it holds none, or cannot say
    :param earlier: names of the metadata files that it followed, as far as it knows; without their folders, whose URI
        libraries write in several ways
    """

    metadata_file: str
    table_uuid: str
    location: str
    sequence_number: int
    updated_at: datetime
    rows: int
    watermark: datetime | None
    earlier: frozenset[str] = frozenset()

    @property
    def file_name(self) -> str:
        """Of the metadata file, which no other one has."""
        return file_name(self.metadata_file)

    @property
    def new(self) -> bool:
        """Whether it neither holds rows nor says where to go on."""
        return not self.rows and self.watermark is None

    @property
    def commits(self) -> tuple[int, int]:
        """How many commits led to it: more only in a later state of the same line.

        Where the name says so, the sequence number does not count: a commit that publishes a snapshot has the one of
        the commit that staged it.
        """
        version = version_of(self.file_name)
        return (version, 0) if version >= 0 else (-1, self.sequence_number)

    @property
    def progress(self) -> tuple[datetime, int]:
        """How far its windows and its data have come."""
        return self.watermark or FIRST_WATERMARK, self.sequence_number


def file_name(uri: str) -> str:
    """The last part of a URI."""
    return uri.rpartition("/")[2]


_DIGITS_OF_A_UUID = 8
"""As many as its first group has, of which some consist of decimal digits alone."""


def version_of(name: str) -> int:
    """The number in a metadata file's name, such as 00012-….metadata.json or v12.metadata.json; -1 if it has none."""
    number = name.partition("-")[0].partition(".")[0].removeprefix("v")
    return int(number) if number.isdecimal() and len(number) < _DIGITS_OF_A_UUID else -1


def last_of_each_line(
    files: Sequence[str],
    read: Callable[[str], TableState | None],
    is_whole: Callable[[TableState], bool] = lambda _: True,
) -> list[TableState]:
    """The states that no other one follows: several if a commit failed, a catalog went back, or a table was made anew.

    Reads few of the files: each names those before it.

    :param files: newest first, by the number in their names
    :param read: ``None`` if the file cannot be read
    :param is_whole: whether a state can be read; one that cannot counts as if it were not there
    """
    by_name = {file_name(file): file for file in files}
    states: list[TableState] = []
    known: set[str] = set()
    for name, file in by_name.items():
        if name in known:
            continue
        state = read(file)
        if state is not None and is_whole(state):
            states.append(replace(state, earlier=_all_earlier(state, by_name, read)))
            known |= states[-1].earlier
    return [state for state in states if state.file_name not in known]  # if the names do not count upwards


def _all_earlier(
    state: TableState, by_name: dict[str, str], read: Callable[[str], TableState | None]
) -> frozenset[str]:
    """Also those that a file names no more, as it names the last hundred or so."""
    earlier, oldest = state.earlier, None
    while (found := next((name for name in reversed(by_name) if name in earlier), None)) != oldest:
        oldest = found
        before = read(by_name[found]) if found is not None else None
        earlier |= before.earlier if before is not None else frozenset()
    return earlier


@dataclass(frozen=True)
class Choice:
    """What a catalog should name.

    :param state: in place of what it names; ``None`` if that stays
    :param tied: states between which only a person can choose
    :param later: states of other lines that have come further than what the catalog will name
    """

    state: TableState | None = None
    tied: tuple[TableState, ...] = ()
    later: tuple[TableState, ...] = ()


def choose(current: TableState | None, found: Sequence[TableState], followed: str | None) -> Choice:
    """The state that a catalog should name in place of the one that it names, if there is one.

    :param current: ``None`` if the catalog names none, or one that cannot be read
    :param found: the last of each line in the table's folder
    :param followed: UUID of the table that the ledger has followed, if it knows
    """
    table_uuid = followed or (current.table_uuid if current is not None and not current.new else None)
    possible = [each for each in found if each.table_uuid == table_uuid or (table_uuid is None and not each.new)]
    if len({each.table_uuid for each in possible}) > 1:
        return Choice(tied=tuple(possible))  # commits of different tables do not compare
    kept = current if current is not None and current.table_uuid == table_uuid else None
    following = [each for each in possible if kept is None or kept.file_name in each.earlier]
    best = max(following, key=lambda each: each.commits, default=None)
    tied = tuple(each for each in following if best is not None and each.commits == best.commits)
    if len(tied) > 1:
        return Choice(tied=tied)
    reached = best or kept
    if reached is None:
        return Choice()
    others = (each for each in possible if each.file_name != reached.file_name)
    return Choice(best, later=tuple(each for each in others if each.progress > reached.progress))
