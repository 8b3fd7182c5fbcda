"""Which metadata file a catalog should name for a cold table: each of them is the whole table, as it was then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
    def progress(self) -> tuple[datetime, int]:
        """How far it has come: more only in a later state of the same line."""
        return self.watermark or FIRST_WATERMARK, self.sequence_number


def file_name(uri: str) -> str:
    """The last part of a URI."""
    return uri.rpartition("/")[2]


def last_of_each_line(files: Iterable[str], read: Callable[[str], TableState]) -> list[TableState]:
    """The states that no other one follows; more than one where a catalog went back, or a table was made anew.

    Reads few of the files: each names those before it.

    :param files: newest first, by the number in their names
    """
    states: list[TableState] = []
    known: set[str] = set()
    for file in files:
        if file_name(file) not in known:
            state = read(file)
            states.append(state)
            known |= state.earlier
    return states


def choose(current: TableState | None, found: Sequence[TableState], followed: str | None) -> TableState | None:
    """The state that a catalog should name in place of the one that it names, if there is one.

    :param current: ``None`` if the catalog names none, or one that cannot be read
    :param found: in the table's folder
    :param followed: UUID of the table that the ledger has followed, if it knows
    """
    table_uuid = followed or (current.table_uuid if current is not None and not current.new else None)
    possible = [each for each in found if each.table_uuid == table_uuid or (table_uuid is None and not each.new)]
    best = max(possible, key=lambda each: each.progress, default=None)
    if best is None or (
        current is not None and best.table_uuid == current.table_uuid and best.progress <= current.progress
    ):
        return None
    return best
