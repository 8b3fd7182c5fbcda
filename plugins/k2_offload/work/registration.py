"""Let the catalog name the newest metadata file of a cold table again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from k2_offload.core.errors import OffloadError, StaleWindow, UnreadableTable
from k2_offload.core.registration import TableState, choose
from k2_offload.core.tables import SEALS_TABLE
from k2_offload.core.windows import format_time
from k2_offload.work.tiers import Tiers


@dataclass(frozen=True)
class Look:
    """A table's entry in the catalog, and what is in its folder.

    :param name: in the table file
    :param current: what the catalog names; ``None`` if nothing, or what cannot be read
    :param problem: why what the catalog names cannot be read
    :param chosen: what it should name instead, if anything
    :param found: the last state of each line of metadata files
    :param finding: why a person has to look first
    :param notes: what a person should know before agreeing
    """

    name: str
    target: str
    current: TableState | None
    problem: str | None
    chosen: TableState | None
    found: tuple[TableState, ...]
    finding: str | None
    notes: tuple[str, ...]


def targets(tiers: Tiers) -> dict[str, str]:
    """Of every cold table that can be registered, by name: those of the table file, and the seals of days."""
    tables = {table.name: table.target for table in tiers.tables.by_name.values()}
    namespaces = sorted({target.partition(".")[0] for target in tables.values()})
    seals = {SEALS_TABLE if len(namespaces) == 1 else f"{each}.{SEALS_TABLE}": each for each in namespaces}
    return tables | {name: f"{namespace}.{SEALS_TABLE}" for name, namespace in seals.items()}


def look(tiers: Tiers, name: str, place: str | None = None) -> Look:
    """What the catalog names, and what it should.

    :param name: one of :func:`targets`
    :param place: URI of the table's folder, or of the metadata file to take; where the catalog has the table, or would
        put it, when left out
    :raises InvalidTablesFile: if there is no such table
    :raises OffloadError: if catalog, ledger or storage cannot be asked
    """
    target = targets(tiers).get(name) or tiers.tables[name].target
    registration = tiers.catalog.registration(name, target)
    current, problem = None, None
    try:
        current = registration.current()
    except UnreadableTable as error:
        problem = str(error)
    record = tiers.ledger.read_tables().get(name)
    followed = record.table_uuid if record is not None else None
    where = place or (current.location if current is not None else registration.usual_location)
    try:
        found = registration.find(where) if where is not None else []
    except UnreadableTable as error:
        return Look(name, target, current, problem, None, (), str(error), ())
    chosen = found[0] if place and found and place == found[0].metadata_file else choose(current, found, followed)
    if chosen is not None and current is not None and chosen.file_name == current.file_name:
        chosen = None
    finding = _finding(name, current, problem, chosen, where, followed)
    return Look(name, target, current, problem, chosen, tuple(found), finding, tuple(_notes(current, chosen, followed)))


def register(tiers: Tiers, found: Look) -> None:
    """Let the catalog name what was chosen. No file is touched.

    :raises StaleWindow: if the catalog names something else meanwhile; nothing has changed then
    :raises OffloadError: if it could not be done, with the command that ends it
    """
    if found.chosen is None:
        return
    registration = tiers.catalog.registration(found.name, found.target)
    file = found.chosen.metadata_file
    with _locked(tiers, found.name):
        try:
            current = registration.current()
        except UnreadableTable:
            current = None
        if (current and current.file_name) != (found.current and found.current.file_name):
            raise StaleWindow(
                f"{found.name}: somebody has committed to the cold table, or registered it, meanwhile. Nothing was "
                f"changed. Stop Airflow, then run `k2 register {found.name}` again."
            )
        try:
            registration.replace(file)
        except OffloadError as error:
            raise OffloadError(
                f"{found.name}: it may be without an entry in the catalog now. No file was touched and no row is lost: "
                f"run `k2 register {found.name} --from {file}` until it succeeds. {error}"
            ) from error


def _locked(tiers: Tiers, name: str) -> AbstractContextManager[object]:
    return tiers.ledger.locked(name) if name in tiers.tables.by_name else nullcontext()


def _finding(
    name: str,
    current: TableState | None,
    problem: str | None,
    chosen: TableState | None,
    where: str | None,
    followed: str | None,
) -> str | None:
    if chosen is not None or (current is not None and current.table_uuid == (followed or current.table_uuid)):
        return None
    if current is None and problem is None and followed is None:
        return None  # a table that has not begun, for all that anybody knows
    place = f"none in {where}" if where else "only the catalog knows where the table's folder was"
    return (
        f"{name}: {problem or 'the catalog does not have the table that the ledger has followed.'} No metadata file of "
        f"it was found to register: {place}. Nothing was changed. Name its folder, or a file: "
        f"`k2 register {name} --from URI`."
    )


def _notes(current: TableState | None, chosen: TableState | None, followed: str | None) -> Iterator[str]:
    if chosen is None:
        return
    if followed is not None and chosen.table_uuid != followed:
        yield (
            f"It is another table (UUID {chosen.table_uuid}) than the ledger has followed ({followed}). Afterwards, "
            "the next cycle stops until `k2 watermark rebuild`."
        )
    if current is None:
        return
    if chosen.table_uuid != current.table_uuid:
        yield (
            f"The table that the catalog has now (UUID {current.table_uuid}, {current.rows:,} rows) loses its entry; "
            "its files stay."
        )
    elif chosen.progress < current.progress:
        until = f" from {format_time(chosen.watermark)} on" if chosen.watermark else ""
        yield (
            f"That goes back: what has been published{until} is moved again, as far as ClickHouse still has it, and "
            "what only the cold tier has is not seen by readers any more."
        )
