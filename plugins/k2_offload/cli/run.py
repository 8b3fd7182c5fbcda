"""``k2 run``: one cycle through the real DAGs, in the foreground."""

from __future__ import annotations

import json as jsonlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer

from k2_offload.adapters.ledger import TableRecord
from k2_offload.cli.console import (
    BAD_INPUT,
    FINDING,
    UNKNOWN,
    Json,
    Layer,
    Tables,
    command,
    errors,
    number_table,
    print_json,
    progress,
    show_number,
    show_table,
    show_time,
)
from k2_offload.core.tables import LAYERS, TableSpec
from k2_offload.core.windows import format_time
from k2_offload.session import open_cycle

_REASON = re.compile(r"(?:\[error *\]|ERROR) +(?P<reason>.+?)(?: +\[[\w.]+\].*)?$")


@dataclass(frozen=True)
class LayerResult:
    """How one layer's DAG run ended."""

    layer: str
    state: str
    seconds: float


@command
def run(tables: Tables = None, layer: Layer = None, json: Json = False) -> None:
    """Run one cycle of all or some tables through the DAGs, here and now.

    Layers run in their order, bronze, silver, gold; the first that fails ends the run. It is safe beside a running
    scheduler: whoever comes second finds the window published.

    Example: [bold]k2 run --layer bronze[/bold]
    """
    with open_cycle("run") as cycle:
        if layer is not None and layer not in LAYERS:
            errors.print(f"[red]✗[/red] no layer '{layer}'; there are: {', '.join(LAYERS)}")
            raise typer.Exit(BAD_INPUT)
        chosen = cycle.tables.select(tables or [], layer)
        cycle.ledger.create_schema()
        before = cycle.ledger.read_tables()
        layers = [each for each in LAYERS if any(table.layer == each for table in chosen)]
        log = Path(tempfile.mkdtemp(prefix="k2-run-")) / "airflow.log"
        results = _run_layers(layers, tables or [], log)
        after = cycle.ledger.read_tables()
    if json:
        print_json(
            {
                "layers": [vars(result) for result in results],
                "tables": [_document(table, before, after) for table in chosen],
                "log": str(log),
            }
        )
    else:
        _print(chosen, before, after)
    if [result.state for result in results] != ["success"] * len(layers):
        _explain(log)
        raise typer.Exit(FINDING)


def _run_layers(layers: list[str], tables: list[str], log: Path) -> list[LayerResult]:
    request = jsonlib.dumps({"layers": layers, "tables": tables})
    results: list[LayerResult] = []
    with log.open("w") as log_file, progress("starting Airflow") as update:
        process = subprocess.Popen(
            [sys.executable, "-m", "k2_offload.cli.dag_runner", request],
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
        )
        if process.stdout is None:
            raise RuntimeError("a process started with a pipe has one")
        update(f"{layers[0]}: plan, offload, commit")
        for line in process.stdout:
            result = LayerResult(**jsonlib.loads(line))
            results.append(result)
            mark = "[green]✓[/green]" if result.state == "success" else "[red]✗[/red]"
            errors.print(f"{mark} {result.layer:<6} {result.state} in {result.seconds:.1f} s")
            if len(results) < len(layers):
                update(f"{layers[len(results)]}: plan, offload, commit")
        process.wait()
    return results


def _moved(table: TableSpec, before: Mapping[str, TableRecord], after: Mapping[str, TableRecord]) -> TableRecord | None:
    """The window that this run committed, if it did."""
    old, new = before.get(table.name), after.get(table.name)
    if new is None or new.state != "committed" or (old and (old.high, old.state) == (new.high, new.state)):
        return None
    return new


def _document(
    table: TableSpec, before: Mapping[str, TableRecord], after: Mapping[str, TableRecord]
) -> dict[str, object]:
    moved = _moved(table, before, after)
    return {
        "table": table.name,
        "rows": moved.rows if moved else 0,
        "low": format_time(moved.low) if moved and moved.low else None,
        "high": format_time(moved.high) if moved and moved.high else None,
        "seconds": moved.last_run_duration_seconds if moved else None,
    }


def _print(chosen: list[TableSpec], before: Mapping[str, TableRecord], after: Mapping[str, TableRecord]) -> None:
    shown = number_table("", ["table", "window from (UTC)", "to, exclusive"], ["rows", "seconds"])
    for table in chosen:
        moved = _moved(table, before, after)
        if moved is None:
            shown.add_row(table.name, "[dim]nothing new[/dim]", "", "0", UNKNOWN)
        else:
            seconds = f"{moved.last_run_duration_seconds:.1f}" if moved.last_run_duration_seconds else UNKNOWN
            shown.add_row(table.name, show_time(moved.low), show_time(moved.high), show_number(moved.rows), seconds)
    show_table(shown)


def _explain(log: Path) -> None:
    lines = [line for line in log.read_text().splitlines() if line.strip()]
    reasons = [match["reason"] for line in lines if (match := _REASON.search(line))]
    for reason in dict.fromkeys(reasons or lines[-1:]):
        errors.print(f"✗ {reason}", soft_wrap=True, markup=False, style="red")
    errors.print(f"Airflow's log of this run: {log}", soft_wrap=True)
