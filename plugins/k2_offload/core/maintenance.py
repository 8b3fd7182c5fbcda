"""Why a cold table may be tidied beside everything else. The argument, and every rule that it needs.

Maintenance changes how a table is stored and never what it holds:

1. *A rewrite* takes files F of one day, or of several that are over (:func:`together`), out of the table and puts
   files G in their place, which hold the same rows, day by day: by number and by the sum of their hashes, read back
   after the snapshot was staged (:func:`audit_rewrite`). It names no
   window (:class:`RewriteStamp`), and row totals do not change, so whoever looks for the newest window passes it over.
   All of F must be in the snapshot that it is put on top of (:func:`check_rewrite`): whatever else happened since,
   windows, heals, other rewrites, is part of that snapshot and stays. Days with delete files are left as they are, and
   delete files that come for F stop it. One atomic commit moves main from that snapshot's parent to it, and from
   nowhere else.
2. *Expiry* forgets old snapshots and removes no file. It keeps everything from the last window to main, however old
   (:func:`expire_before`), and is refused where the branch of the last window is no ancestor of main: the chain then
   still says which window came last, and the row totals of :mod:`k2_offload.core.exactly_once` lead to it.
3. *Orphan removal* is the only step that removes files, and only follows an expiry that went well. It removes what was
   listed in the table's folder before the table was read, was old by then, and is named by no snapshot, staged ones
   included, of a table read afterwards. A job that runs writes files that are not old; one that was forgotten for so
   long looks for its files each time before it publishes them. A folder that holds another table's metadata, however
   young, or a later state of this one, is left alone (:func:`check_alone`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import ceil

from k2_offload.core.errors import AuditFailed, DamagedTable, StaleWindow
from k2_offload.core.exactly_once import ATTEMPT_PROPERTY, PUBLISHED_BRANCH, Published, Snapshot, ancestors
from k2_offload.core.text import show_days

REWRITE_PROPERTY = "k2.rewrite"
"""Snapshot summary key of a rewrite: the days whose files it replaced, with commas between."""

MAX_REF_AGE = "history.expire.max-ref-age-ms"
"""Property of a table: an expiry removes branches and tags of older snapshots, main excepted."""

CLOSED_DAY_FILES = 4
OPEN_DAY_FILES = 32
"""A day that has more files than that, and than its size asks for, is rewritten. Windows still come to an open day."""

TOGETHER_BYTES = 32 * 2**20
TOGETHER_FILES = 2_000
"""What days that are rewritten in one snapshot have together, at most: what a run that is killed does again."""

MAX_SNAPSHOTS = 5_000
"""About seven weeks without any expiry. Two commits a cycle are 192 a day, and every one writes the whole metadata
file, which every plan, commit and query reads: a year of them is 30 MB, and a second and a half."""

MAX_METADATA_BYTES = 8 * 2**20
"""A load takes a third of a second from there on."""


def is_overdue(snapshots: int, metadata_bytes: int) -> bool:
    """Whether old snapshots should have been expired by now.

    :param metadata_bytes: size of the current metadata file
    """
    return snapshots > MAX_SNAPSHOTS or metadata_bytes > MAX_METADATA_BYTES


@dataclass(frozen=True)
class RewriteStamp:
    """What a rewrite's snapshot says of itself, in its summary.

    :param days: in their order
    :param attempt: unique; names one attempt's files and its snapshot
    """

    days: tuple[date, ...]
    attempt: str

    @property
    def summary(self) -> dict[str, str]:
        """Keys and values as they stand in the snapshot's summary."""
        return {REWRITE_PROPERTY: ",".join(map(date.isoformat, self.days)), ATTEMPT_PROPERTY: self.attempt}


def rewritten_days(summary: Mapping[str, str]) -> tuple[date, ...]:
    """The days whose files a snapshot has replaced by others with the same rows; none if it is no rewrite.

    :param summary: the snapshot's
    """
    return tuple(map(date.fromisoformat, filter(None, summary.get(REWRITE_PROPERTY, "").split(","))))


def files_wanted(sizes_bytes: Collection[int], target_file_bytes: int, *, closed: bool) -> int | None:
    """Into how many files those of one day should be rewritten.

    :param sizes_bytes: of the files that the day has now
    :param closed: whether no window will come to the day any more
    :returns: ``None`` if they are fine as they are
    """
    wanted = max(1, ceil(sum(sizes_bytes) / target_file_bytes))
    # Twice as many are fine: a rewrite may shrink a day by half, and must not be asked for again by its own result.
    allowed = max(CLOSED_DAY_FILES if closed else OPEN_DAY_FILES, 2 * wanted)
    return wanted if len(sizes_bytes) > allowed else None


@dataclass(frozen=True)
class DayFiles:
    """A day whose files are to be rewritten.

    :param files: how many it has now, of ``size_bytes`` together
    :param into: how many it should have
    :param closed: whether no window will come to it any more
    """

    day: date
    files: int
    size_bytes: int
    into: int
    closed: bool


def together(
    days: Iterable[DayFiles], most_bytes: int = TOGETHER_BYTES, most_files: int = TOGETHER_FILES
) -> Iterator[list[DayFiles]]:
    """Days that one snapshot rewrites: a Spark job and a commit for each of many small days take longer than its rows.

    A day that is not over is alone, as a heal or a window is likely to come to it meanwhile; so is one that becomes
    several files.

    :param days: in their order, which stays
    :param most_bytes: of their files together, unless one day alone has more
    :param most_files: likewise
    """
    group: list[DayFiles] = []
    for day in days:
        alone = not day.closed or day.into > 1
        files, size_bytes = sum(each.files for each in group), sum(each.size_bytes for each in group)
        if group and (alone or files + day.files > most_files or size_bytes + day.size_bytes > most_bytes):
            yield group
            group = []
        if alone:
            yield [day]
        else:
            group.append(day)
    if group:
        yield group


def check_rewrite(table: str, days: Sequence[date], files: Collection[str], present: Collection[str]) -> None:
    """Whether files may be taken out of a snapshot.

    :param files: to be taken out
    :param present: those that the snapshot holds of the days
    :raises StaleWindow: if not
    """
    gone = len(set(files) - set(present))
    if gone:
        raise StaleWindow(
            f"{table} {show_days(days)}: {gone} of its files were replaced while they were being rewritten. Nothing "
            "was changed and no row is lost; the next run looks at it anew."
        )


def audit_rewrite(
    table: str, day: date, *, rows_in_metadata: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """The files that were written for a day hold the rows of those they replace.

    :param rows_in_metadata: how many the old files hold as the table says
    :param before: number of rows and content hash, as read from the old files
    :param after: the same, of the new files
    :raises AuditFailed: otherwise; nothing was changed
    """
    if rows_in_metadata != before[0]:
        raise AuditFailed(
            f"{table} {day}: its files hold {before[0]} rows, and the table says {rows_in_metadata}. Nothing was "
            f"changed. `k2 verify {table}` shows what differs from ClickHouse."
        )
    if before != after:
        raise AuditFailed(
            f"{table} {day}: the rewritten files hold {after[0]} rows and the old ones {before[0]}"
            f"{', with another content' if before[0] == after[0] else ''}. Nothing was changed and no row is lost; the "
            "next run tries again."
        )


def expire_before(
    table: str,
    head: int | None,
    published: Published,
    branches: Mapping[str, int],
    snapshot_of: Callable[[int], Snapshot | None],
    time_of: Callable[[int], datetime],
    wanted: datetime,
) -> tuple[datetime, frozenset[int]]:
    """Snapshots older than this may go, except for those that a branch or tag points at.

    What readers saw at that time stays, too: its snapshot is older if nothing was committed for long.

    :param head: of main
    :param published: the newest window
    :param branches: the snapshots that the table's branches point at
    :param snapshot_of: the snapshot of an id, ``None`` once expired
    :param time_of: when a snapshot was made, as its writer's clock said
    :param wanted: what the table file asks for
    :returns: at most ``wanted``, and not above the time of anything from the last window to main; and what must not go
    :raises DamagedTable: if the branch of the last window is no ancestor of main
    """
    kept: list[int] = []
    for snapshot in ancestors(head, snapshot_of):
        kept.append(snapshot.snapshot_id)
        if snapshot.snapshot_id == published.snapshot.snapshot_id:
            break
    marker = branches.get(PUBLISHED_BRANCH)
    if marker not in (None, published.snapshot.snapshot_id):
        raise DamagedTable(
            f"{table}: branch '{PUBLISHED_BRANCH}' is no ancestor of main: the table was rolled back since the last "
            "window. No snapshot was expired and no row is lost. The next window that is published moves the branch; "
            f"`k2 run {table}` at once."
        )
    for snapshot in ancestors(head, snapshot_of):
        if time_of(snapshot.snapshot_id) <= wanted:
            kept.append(snapshot.snapshot_id)
            break
    return min([wanted, *map(time_of, kept)]), frozenset(kept)


@dataclass(frozen=True)
class FoundMetadata:
    """A metadata file in a table's folder that the table's own list of them does not name.

    :param last_sequence_number: of the table as the file has it
    """

    file: str
    table_uuid: str
    last_sequence_number: int


def check_alone(table: str, table_uuid: str, last_sequence_number: int, others: Iterable[FoundMetadata]) -> None:
    """Whether what no snapshot names belongs to nobody else.

    :param last_sequence_number: of the table as it is
    :raises DamagedTable: if the folder holds another table, or a later state of this one
    """
    for other in others:
        if other.table_uuid != table_uuid:
            raise DamagedTable(
                f"{table}: the folder of the cold table holds metadata of another table, {other.table_uuid}: "
                f"{other.file}. It may have been dropped and made anew in the same place, or lie inside. No file was "
                "removed. Move the other table's files away, or remove them; the next run then goes on."
            )
        if other.last_sequence_number > last_sequence_number:
            raise DamagedTable(
                f"{table}: the folder of the cold table holds a later state of the table than the catalog knows: "
                f"{other.file}. The catalog may have been restored from a backup. No file was removed. "
                f"`k2 register {table}` shows both, and takes that state with `--from {other.file}`. To keep the "
                "present one, move that file away: the next run then goes on, and rows that only the other state has "
                "are removed. docs/disaster.md says more."
            )


@dataclass(frozen=True)
class Folder:
    """What a cold table consists of, as far as maintenance changes it.

    :param files: data files of the current snapshot
    :param size_bytes: of those
    :param metadata_bytes: size of the current metadata file
    """

    files: int
    size_bytes: int
    snapshots: int
    metadata_bytes: int


@dataclass(frozen=True)
class Tidied:
    """What maintenance did to one table; of a dry run, what it would do.

    :param rewritten_days: days whose files were replaced
    :param orphans: files that were removed
    :param problems: what went wrong, and what to do; what had been done by then stays
    :param differences: those of them that an audit has found
    """

    table: str
    before: Folder
    after: Folder
    rewritten_days: int
    expired_snapshots: int
    orphans: int
    orphan_bytes: int
    seconds: float
    problems: Sequence[str] = ()
    differences: Sequence[str] = ()

    @property
    def came_back(self) -> bool:
        """Whether it is a run, and not only the word that one has begun: a table has a snapshot at least."""
        return self.after.snapshots > 0


def begun(table: str) -> Tidied:
    """What there is to say of a table from when maintenance begins with it until it comes back from it."""
    nothing = Folder(files=0, size_bytes=0, snapshots=0, metadata_bytes=0)
    problem = (
        f"{table}: maintenance has begun with it, and has not come back. What was done stays done. The log says why it "
        f"has ended; the next run goes on, and `k2 maintain {table}` does so now."
    )
    return Tidied(table, nothing, nothing, 0, 0, 0, 0, 0.0, (problem,))
