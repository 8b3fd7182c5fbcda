"""``k2 run``: one cycle through the real DAGs, in the foreground."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

import typer
from rich.markup import escape

from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.cli.console import (
    FAILED,
    FINDING,
    PASSED,
    command,
    errors,
    new_progress,
    number_table,
    print_json,
    screen,
    show_error,
    show_table,
)
from k2_offload.cli.dag_runner import Event, LayerEnded, Notice, WindowMoved
from k2_offload.cli.options import JsonOption, LayerOption, TablesArgument
from k2_offload.cli.run_log import find_reasons
from k2_offload.cli.run_progress import RunProgress
from k2_offload.core.tables import LAYERS, TableSpec
from k2_offload.core.text import UNKNOWN, show_duration, show_number, show_seconds, show_time, show_window
from k2_offload.core.windows import parse_time

_TAIL_LINES = 15
_END_SECONDS = 30


@command
def run(tables: TablesArgument = None, layer: LayerOption = None, as_json: JsonOption = False) -> None:
    """Run one cycle of all or some tables through the DAGs, here and now.

    Layers run in their order, bronze, silver, gold; the first that fails ends the cycle. Where a scheduler is at work,
    it runs them, with retries; otherwise this command does, without. It is safe beside scheduled runs: whoever comes
    second finds the window published.

    Example: [bold]k2 run --layer bronze[/bold]
    """
    chosen = load_tables(load_settings().tables_file).select(tables or [], layer)
    layers = [each for each in LAYERS if any(table.layer == each for table in chosen)]
    log = _new_log()
    windows: dict[str, WindowMoved] = {}
    ended: list[LayerEnded] = []
    with _runner(layers, tables or [], log) as events:
        for event in _with_progress(events, layers):
            if isinstance(event, LayerEnded):
                ended.append(event)
                continue
            before = windows.get(event.table)
            # Others may open the next one meanwhile.
            if before is None or before.state == "left_out" or event.state == "committed":
                windows[event.table] = event
    states = {table.name: state_of(table, windows.get(table.name), ended) for table in chosen}
    succeeded = [each.state for each in ended] == ["success"] * len(layers)
    if succeeded:
        _remove_log(log)
    if as_json:
        documents = [_document(name, state, windows.get(name)) for name, state in states.items()]
        left = None if succeeded else str(log)
        print_json({"layers": [asdict(each) for each in ended], "tables": documents, "log": left})
    else:
        _print(states, windows)
        if set(states.values()) == {State.NOTHING_NEW}:
            buffer = show_duration(max(table.buffer for table in chosen))
            waits = f"Rows younger than {buffer} wait for a later run: older ones may still come (buffer_seconds)."
            screen.print(waits, soft_wrap=True)
    if not succeeded:
        explain(log)
        raise typer.Exit(FINDING)


def run_dag(dag_id: str, tables: list[str], conf: Mapping[str, object], *, shows_waiting: bool = True) -> Path | None:
    """Run another DAG, and show what a person should know of it.

    :param conf: of the run, besides its tables
    :param shows_waiting: with a bar of its own
    :returns: Airflow's log of a run that did not succeed, for :func:`explain`; that of one that did is removed
    """
    log, state = _new_log(), "missing"
    with _runner([dag_id], tables, log, conf) as events:
        for event in _waiting(f"running {dag_id}", events) if shows_waiting else events:
            if isinstance(event, Notice):
                _show_notice(event)
            elif isinstance(event, LayerEnded):
                state = event.state
    if state != "success":
        return log
    _remove_log(log)
    return None


def _new_log() -> Path:
    return Path(tempfile.mkdtemp(prefix="k2-run-")) / "airflow.log"


def _remove_log(log: Path) -> None:
    """A run every quarter of an hour would leave 35,000 of them a year."""
    shutil.rmtree(log.parent, ignore_errors=True)


@contextmanager
def _runner(
    layers: list[str], tables: list[str], log: Path, conf: Mapping[str, object] = MappingProxyType({})
) -> Iterator[Iterator[Event]]:
    """Run the layers in a process of its own; it and all that it started ends with this block.

    Its run too, unless a scheduler has begun it: then a notice is shown.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with log.open("w") as log_file, _start_runner(layers, tables, log_file, conf) as process:
        try:
            yield map(_read_event, process.stdout or ())
            process.wait()
        finally:
            with suppress(subprocess.TimeoutExpired):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGINT)
                process.wait(_END_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _show_notices(process)  # what it has said since it was interrupted
            if process.wait() < 0:  # killed, so that it could not end its run itself
                with _start_runner(layers, None, log_file) as cleaner:
                    _show_notices(cleaner)


def _start_runner(
    layers: list[str], tables: list[str] | None, log_file: TextIO, conf: Mapping[str, object] = MappingProxyType({})
) -> subprocess.Popen[str]:
    request = json.dumps({"layers": layers, "tables": tables, "conf": dict(conf)})
    return subprocess.Popen(
        [sys.executable, "-m", "k2_offload.cli.dag_runner", request],
        stdout=subprocess.PIPE,
        stderr=log_file,
        text=True,
        start_new_session=True,
    )


def _read_event(line: str) -> Event:
    event = json.loads(line)
    kinds = {kind.__name__: kind for kind in (LayerEnded, WindowMoved, Notice)}
    return kinds[event.pop("event")](**event)


def _show_notices(process: subprocess.Popen[str]) -> None:
    for event in map(_read_event, process.stdout or ()):
        if isinstance(event, Notice):
            _show_notice(event)


def _show_notice(notice: Notice) -> None:
    errors.print(escape(notice.text), soft_wrap=True)


def _with_progress(events: Iterator[Event], layers: list[str]) -> Iterator[LayerEnded | WindowMoved]:
    """Show the events as they come: bars where there is a terminal, and a line for each layer that ended."""
    with RunProgress(errors, layers) if errors.is_terminal else nullcontext() as bars:
        for event in events:
            if isinstance(event, Notice):
                _show_notice(event)
                continue
            if isinstance(event, LayerEnded):
                mark = PASSED if event.state == "success" else FAILED
                errors.print(f"{mark} {event.layer:<6} {event.state} in {event.seconds:.1f} s")
            elif bars is None:
                doing = {"open": "moving", "committed": "moved", "left_out": "left out of"}[event.state]
                errors.print(f"  {doing} {event.table}, {event.rows:,} rows")
            if bars is not None:
                bars.show(event)
            yield event


def _waiting(text: str, events: Iterator[Event]) -> Iterator[Event]:
    with new_progress() as bar:
        bar.add_task(text, total=None)
        yield from events


class State(StrEnum):
    """What became of a table; its value stands in JSON.

    ``LEFT_OUT`` is a table that begins at the front, and leaves its rows so far to a backfill. ``NOT_MOVED`` is one of
    a layer that failed, of which nothing else is known: it was refused, or its window had been open before and still
    is.
    """

    MOVED = "moved"
    LEFT_OUT = "left_out"
    NOTHING_NEW = "nothing_new"
    FAILED = "failed"
    NOT_MOVED = "not_moved"
    NOT_FINISHED = "not_finished"
    NOT_RUN = "not_run"


_SHOWN = {
    State.NOTHING_NEW: "[dim]nothing new[/dim]",
    State.FAILED: "[red]failed, see below[/red]",
    State.NOT_MOVED: "[red]not moved, see below[/red]",
    State.NOT_FINISHED: "[red]not finished[/red]",
    State.NOT_RUN: "not run",
}


def state_of(table: TableSpec, window: WindowMoved | None, ended: Sequence[LayerEnded]) -> State:
    """What became of one table.

    :param window: the last that is known of it from this run
    :param ended: the layers that have ended, in their order
    """
    if window and window.state in ("committed", "left_out"):
        return State.MOVED if window.state == "committed" else State.LEFT_OUT
    of_layer = {each.layer: each.state for each in ended}
    layer_state = of_layer.get(table.layer)
    if layer_state == "success":
        return State.NOT_FINISHED if window else State.NOTHING_NEW
    if layer_state == "failed":
        return State.FAILED if window else State.NOT_MOVED
    stopped_before = any(state != "success" for state in of_layer.values())
    return State.NOT_RUN if layer_state is None and stopped_before and not window else State.NOT_FINISHED


def _document(table: str, state: State, window: WindowMoved | None) -> dict[str, object]:
    moved = window if state in (State.MOVED, State.LEFT_OUT) else None
    return {
        "table": table,
        "state": state,
        "rows": moved.rows if moved else 0 if state is State.NOTHING_NEW else None,
        "low": moved.low if moved else None,
        "high": moved.high if moved else None,
        "seconds": moved.seconds if moved else None,
    }


def _print(states: Mapping[str, State], windows: Mapping[str, WindowMoved]) -> None:
    shown = number_table(["table", "window (UTC)"], ["rows", "seconds"])
    for table, state in states.items():
        if state is State.MOVED:
            window = windows[table]
            bounds = show_window(parse_time(window.low), parse_time(window.high))
            shown.add_row(table, bounds, show_number(window.rows), show_seconds(window.seconds))
        elif state is State.LEFT_OUT:
            window = windows[table]
            left = f"{window.rows:,} rows are left to `k2 backfill {table}`"
            shown.add_row(table, f"begins at {show_time(parse_time(window.high))}; {left}", "0", UNKNOWN)
        else:
            shown.add_row(table, _SHOWN[state], "0" if state is State.NOTHING_NEW else UNKNOWN, UNKNOWN)
    show_table(shown)


def explain(log: Path) -> None:
    """Say why a run failed, as far as its log tells."""
    text = log.read_text(errors="replace")
    reasons = find_reasons(text)
    for reason in reasons:
        show_error(reason)
    if not reasons:
        for line in text.splitlines()[-_TAIL_LINES:]:
            errors.print(f"  {escape(line)}", soft_wrap=True)
    errors.print("What was published stays; the next run resumes the rest.")
    errors.print(f"Airflow's log of this run: {log}", markup=False, soft_wrap=True)
