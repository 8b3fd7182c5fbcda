"""Let the catalog name the newest metadata file of a cold table again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.adapters.registration import Found
from k2_offload.core.errors import OffloadError, Overloaded, Refused, StaleWindow, Unreachable, UnreadableTable
from k2_offload.core.registration import Choice, TableState, choose
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
    """Of every cold table that can be registered, by name: the seals of days, first, and those of the table file."""
    tables = {table.name: table.target for table in tiers.tables.by_name.values()}
    namespaces = sorted({table.namespace for table in tiers.tables.by_name.values()})
    seals = {SEALS_TABLE if len(namespaces) == 1 else f"{each}.{SEALS_TABLE}": each for each in namespaces}
    return {name: f"{namespace}.{SEALS_TABLE}" for name, namespace in seals.items()} | tables


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
        found = registration.find(where) if where is not None else Found(())
    except UnreadableTable as error:
        return Look(name, target, current, problem, None, (), str(error), ())
    if place and [state.metadata_file for state in found.states] == [place]:
        choice = Choice(found.states[0])
    else:
        choice = choose(current, found.states, followed)
    if choice.state is not None and current is not None and choice.state.file_name == current.file_name:
        choice = replace(choice, state=None)
    finding = _owner(tiers, name, choice.state) if place and choice.state is not None else None
    if finding is not None:
        choice = Choice()
    finding = finding or _finding(tiers, name, target, current, problem, choice, where, followed)
    notes = (*_notes(current, choice.state, followed), *_other_notes(name, current, choice, where, found.passed_over))
    return Look(name, target, current, problem, choice.state, found.states, finding, notes)


def register(tiers: Tiers, found: Look) -> None:
    """Let the catalog name what was chosen. No file is touched.

    :raises StaleWindow: if somebody has committed meanwhile; either nothing has changed, or that commit is there to be
        registered
    :raises OffloadError: if it could not be done, with the command that ends it
    """
    if found.chosen is None:
        return
    registration = tiers.catalog.registration(found.name, found.target)
    file = found.chosen.metadata_file
    with _locked(tiers, found.name):
        before = _file_names(registration.find(found.chosen.location))
        try:
            current = registration.current()  # after that: a commit in between would pass for an old file
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
        if _file_names(registration.find(found.chosen.location)) - before:
            raise StaleWindow(
                f"{found.name}: it was registered, and somebody has committed to it at the same moment, which readers "
                f"may not see now. No row is lost. Stop Airflow, then run `k2 register {found.name}` again."
            )


def _file_names(found: Found) -> set[str]:
    return {state.file_name for state in found.states}


def _locked(tiers: Tiers, name: str) -> AbstractContextManager[object]:
    return tiers.ledger.locked(name) if name in tiers.tables.by_name else nullcontext()


def _owner(tiers: Tiers, name: str, chosen: TableState) -> str | None:
    """Why a state that a person has named is that of another table of the file."""
    record = tiers.ledger.read_tables().get(name)
    if record is not None and record.table_uuid == chosen.table_uuid:
        return None
    others = {other: target for other, target in targets(tiers).items() if other != name}
    recorded = {record.table_uuid: other for other, record in tiers.ledger.read_tables().items() if other != name}
    owner = recorded.get(chosen.table_uuid)
    folder = ".".join(chosen.location.rstrip("/").split("/")[-2:])
    for other, target in others.items() if owner is None else ():
        try:
            state = tiers.catalog.registration(other, target).current()
        except (Unreachable, Refused, Overloaded):
            raise
        except OffloadError:
            state = None
        if folder == target or (state is not None and state.table_uuid == chosen.table_uuid):
            owner = other
    if owner is None:
        return None
    return (
        f"{name}: {chosen.metadata_file} is of {owner}, and two entries for one table would remove each other's files. "
        "Nothing was changed. Name the folder, or a file, of the right table."
    )


def _finding(
    tiers: Tiers,
    name: str,
    target: str,
    current: TableState | None,
    problem: str | None,
    choice: Choice,
    where: str | None,
    followed: str | None,
) -> str | None:
    if choice.tied:
        files = ", ".join(sorted(state.metadata_file for state in choice.tied))
        return (
            f"{name}: which of these metadata files the catalog has named is not known, as one commit was refused or "
            f"lost, or they are of two tables: {files}. Nothing was changed. Compare where they end, then take one: "
            f"`k2 register {name} --from FILE`."
        )
    if choice.state is not None or (current is not None and current.table_uuid == (followed or current.table_uuid)):
        return None
    if current is None and problem is None and followed is None:
        if name in tiers.tables.by_name or not LedgerSeals(tiers.ledger).read(_sealed_in(tiers, target)):
            return None  # a table that has not begun, for all that anybody knows
        problem = "the catalog does not have it, and the ledger has seals."
    return (
        f"{name}: {problem or 'the catalog does not have the table that the ledger has followed.'} No metadata file of "
        f"it was found to register: {_place(where)}. Nothing was changed. Name its folder, or a file: "
        f"`k2 register {name} --from URI`."
    )


def _sealed_in(tiers: Tiers, target: str) -> list[str]:
    """The tables whose seals are in one table of the lake."""
    namespace = target.partition(".")[0]
    return [table.name for table in tiers.tables.by_name.values() if table.namespace == namespace]


def _place(where: str | None) -> str:
    return f"none in {where}" if where else "only the catalog knows where the table's folder was"


def _other_notes(
    name: str, current: TableState | None, choice: Choice, where: str | None, passed_over: Mapping[str, str]
) -> Iterator[str]:
    for file, reason in passed_over.items():
        yield f"{file} counts as if it were not there, like what a commit that failed has left: {reason}."
    for state in choice.later:
        ends = f", ends at {format_time(state.watermark)}" if state.watermark else ""
        yield (
            f"{state.metadata_file} ({state.rows:,} rows{ends}) has come further and is of another line: a commit that "
            f"failed has left it, or the catalog went back and went on. `k2 register {name} --from` takes it."
        )
    if current is None and choice.state is None and not choice.tied:
        yield (
            f"The catalog does not have it, and there is no metadata file of it: {_place(where)}. If it has ever held "
            f"rows, name its folder: `k2 register {name} --from URI`."
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
    elif current.file_name not in chosen.earlier:
        until = f" from {format_time(chosen.watermark)} on" if chosen.watermark else ""
        yield (
            f"That goes back: what has been published{until} is moved again, as far as ClickHouse still has it, and "
            "what only the cold tier has is not seen by readers any more."
        )
