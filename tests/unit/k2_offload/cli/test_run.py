"""What is shown of a table after a run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from k2_offload.cli import run as command
from k2_offload.cli.dag_runner import LayerEnded, WindowMoved
from k2_offload.cli.main import app

LOW, HIGH = "2026-03-04T12:00:00.000000Z", "2026-03-04T12:15:00.000000Z"
TABLES = """
tables:
  trades: {layer: bronze, source: k2.trades, target: cold.trades, timestamp_column: at}
  candles: {layer: silver, source: k2.candles, target: cold.candles, timestamp_column: at}
"""
OPEN = WindowMoved("trades", "open", LOW, HIGH, 7, None)
DONE = WindowMoved("trades", "committed", LOW, HIGH, 7, 1.5)
LEFT = WindowMoved("trades", "left_out", "2000-01-01T00:00:00.000000Z", HIGH, 1234, None)
BEGINS = "begins at 2026-03-04 12:15:00; 1,234 rows are left to `k2 backfill trades`"


@pytest.fixture
def happens(monkeypatch, tmp_path):
    """Lets the next runs of two tables tell of some events."""

    def tell(events):
        file = tmp_path / "tables.yaml"
        file.write_text(TABLES)
        monkeypatch.setattr(command, "load_settings", lambda: SimpleNamespace(tables_file=file))

        @contextmanager
        def runner(_layers, _tables, log: Path):
            log.touch()
            yield iter(events)

        monkeypatch.setattr(command, "_runner", runner)

    return tell


@pytest.mark.parametrize(
    ("events", "states", "rows", "shown"),
    [
        ([OPEN, DONE, LayerEnded("bronze", "success", 1), LayerEnded("silver", "success", 1)],
         ["moved", "nothing_new"], [7, 0], "nothing new"),
        ([OPEN, LayerEnded("bronze", "failed", 1)], ["failed", "not_run"], [None, None], "failed, see below"),
        ([LayerEnded("bronze", "failed", 1)], ["not_moved", "not_run"], [None, None], "not moved, see below"),
        ([OPEN, DONE, LayerEnded("bronze", "failed", 1)], ["moved", "not_run"], [7, None], "not run"),
        ([OPEN, LayerEnded("bronze", "running", 1)], ["not_finished", "not_run"], [None, None], "not finished"),
        ([OPEN], ["not_finished", "not_finished"], [None, None], "not finished"),
        ([OPEN, DONE, OPEN, LayerEnded("bronze", "success", 1), LayerEnded("silver", "missing", 1)],
         ["moved", "not_finished"], [7, None], "not finished"),
        ([LEFT, LayerEnded("bronze", "success", 1), LayerEnded("silver", "success", 1)],
         ["left_out", "nothing_new"], [1234, 0], BEGINS),
        ([LEFT, LayerEnded("bronze", "failed", 1)], ["left_out", "not_run"], [1234, None], BEGINS),
        ([LEFT, OPEN, LayerEnded("bronze", "failed", 1)], ["failed", "not_run"], [None, None], "failed, see below"),
        ([LEFT, OPEN, DONE, LEFT, LayerEnded("bronze", "success", 1), LayerEnded("silver", "success", 1)],
         ["moved", "nothing_new"], [7, 0], "nothing new"),
    ],
)  # fmt: skip
def test_only_what_had_nothing_new_is_said_to_have_nothing_new(happens, events, states, rows, shown):
    happens(events)
    result = CliRunner().invoke(app, ["run", "--json"])
    tables = json.loads(result.stdout)["tables"]
    assert [table["state"] for table in tables] == states
    assert [table["rows"] for table in tables] == rows
    screen = CliRunner().invoke(app, ["run"], terminal_width=200).stdout
    assert shown in screen
    assert ("nothing new" in screen) == ("nothing_new" in states)
    assert "buffer_seconds" not in screen


def test_where_nothing_is_new_it_is_said_that_young_rows_wait(happens):
    happens([LayerEnded("bronze", "success", 1), LayerEnded("silver", "success", 1)])
    screen = CliRunner().invoke(app, ["run"]).stdout
    assert "Rows younger than 5 min 00 s wait for a later run" in screen


def test_what_a_run_says_after_it_was_interrupted_is_shown(monkeypatch, capsys):
    program = f"""
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print({json.dumps(json.dumps({"event": "Notice", "text": "waiting"}))}, flush=True)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
except KeyboardInterrupt:
    print({json.dumps(json.dumps({"event": "Notice", "text": "run 7 goes on"}))}, flush=True)
"""

    def start(*_):
        return subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    monkeypatch.setattr(command, "_start_runner", start)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            command.run_dag("k2_reconcile", [], {})
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert capsys.readouterr().err.splitlines()[-1:] == ["run 7 goes on"]


@pytest.mark.parametrize("state", ["success", "failed"])
def test_only_a_run_that_failed_leaves_a_log_behind(monkeypatch, tmp_path, state):
    ended = {"event": "LayerEnded", "layer": "k2_reconcile", "state": state, "seconds": 1}

    def start(_layers, _tables, log, *_):
        program = f"import sys; print({json.dumps(json.dumps(ended))}); sys.stderr.write('why')"
        return subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        )

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(command, "_start_runner", start)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        log = command.run_dag("k2_reconcile", [], {})
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert (log is None) == (state == "success")
    assert [each.read_text() for each in tmp_path.rglob("airflow.log")] == (["why"] if log else [])
    assert bool(list(tmp_path.iterdir())) == bool(log)
