"""The command line itself: help, options, and exit codes for bad input. No service is needed for any of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
import typer
from typer.testing import CliRunner

from embedded.k2 import app


def commands(command=None, path=()) -> Iterator[tuple[str, ...]]:
    command = command or typer.main.get_command(app)
    children = getattr(command, "commands", None)
    if children is None:
        yield path
    else:
        for name, child in children.items():
            yield from commands(child, (*path, name))


ALL = [pytest.param(path, id=" ".join(path)) for path in commands()]


def invoke(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_all_commands_are_there():
    assert {path.values[0] for path in ALL} >= {
        ("validate",), ("run",), ("status",), ("verify",), ("watermark", "show"), ("watermark", "rebuild"),
        ("feed", "generate"), ("feed", "replay"),
    }  # fmt: skip


@pytest.mark.parametrize("path", ALL)
def test_every_command_shows_an_example_and_speaks_json(path):
    result = invoke(*path, "--help")
    text = click.unstyle(result.output)
    assert result.exit_code == 0
    assert "Example" in text
    assert f"k2 {' '.join(path)}" in text.split("Example", 1)[1]
    assert "--json" in text or path == ("kubernetes-secret",), "which is JSON anyway"


@pytest.mark.parametrize("conditions", ["lag>30x", "slow", "late"])
def test_a_condition_that_is_none_is_told_in_one_line_and_exits_with_2(conditions):
    result = invoke("status", "--no-counts", "--fail-on", conditions)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert "--fail-on: " in result.stderr


@pytest.mark.parametrize("arguments", [("verify", "--layer", "brass"), ("status", "--sideways"), ("nothing",)])
def test_wrong_usage_exits_with_2(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tables: [", "not valid YAML"),
        ("tables: {t: {layer: brass}}", "'layer'"),
        ("tables: {}", "at least one table"),
        ("tables: {t: {layer: bronze, colour: red}}", "'source'"),
    ],
)
@pytest.mark.parametrize("command", [("validate",), ("status",), ("verify",), ("run",), ("watermark", "show", "t")])
def test_a_wrong_table_file_exits_with_2_and_one_line_that_names_it(tmp_path, monkeypatch, command, text, message):
    file = tmp_path / "tables.yaml"
    file.write_text(text)
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__TABLES_FILE", str(file))
    result = invoke(*command)
    assert result.exit_code == 2
    [line] = result.stderr.splitlines()
    assert str(file) in line
    assert message in line
    assert result.stdout == ""


@pytest.mark.parametrize("text", ["many", "0", "-1", "1.5"])
@pytest.mark.parametrize("command", ["validate", "status", "verify", "run"])
def test_a_wrong_setting_is_one_line_that_names_it(monkeypatch, command, text):
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__PARALLEL_TABLES", text)
    result = invoke(command)
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert f"parallel_tables is '{text}'" in line
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "yesterday"), "'yesterday' is no day"),
        (("--from", "2026-03-02", "--to", "2026-03-01"), "--from 2026-03-02 is after --to 2026-03-01"),
        (("--deep", "--cold-only"), "--cold-only does not ask it"),
    ],
)
def test_days_and_options_of_verify_that_do_not_go_together_exit_with_2(arguments, words):
    result = invoke("verify", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(click.unstyle(result.stderr).replace("│", " ").split())


@pytest.mark.parametrize("day", ["9999-12-31", "2300-01-01", "1899-12-31", "0001-01-01"])
@pytest.mark.parametrize("command", [("report", "--day"), ("verify", "--to"), ("verify", "--from"), ("heal", "--day")])
def test_a_day_that_clickhouse_does_not_know_exits_with_2(command, day):
    result = invoke(*command, day)
    assert result.exit_code == 2
    assert f"'{day}' is not from 1900-01-01" in " ".join(click.unstyle(result.stderr).replace("│", " ").split())


@pytest.mark.parametrize("command", ["run", "verify", "status", "report"])
def test_a_layer_without_tables_exits_with_2_before_anything_is_asked(tmp_path, monkeypatch, command):
    file = tmp_path / "tables.yaml"
    file.write_text("tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at}}")
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__TABLES_FILE", str(file))
    result = invoke(command, "--layer", "silver")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no table chosen: none is of layer silver" in result.stderr


def test_a_table_that_is_not_maintained_is_refused_when_it_is_named(tmp_path, monkeypatch):
    file = tmp_path / "tables.yaml"
    file.write_text(
        "tables: {t: {layer: bronze, source: k2.t, target: cold.t, timestamp_column: at, maintenance: false}}"
    )
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__TABLES_FILE", str(file))
    for arguments in (["t"], []):
        result = invoke("maintain", *arguments)
        assert (result.exit_code, result.stdout) == (2, "")
        assert "t: not maintained, because the table file says 'maintenance: false'" in result.stderr


def test_a_table_that_is_not_in_the_file_exits_with_2_and_names_those_that_are():
    result = invoke("run", "ohlcv_7m")
    assert result.exit_code == 2
    assert "no table 'ohlcv_7m'; there are: bronze_trades_binance" in result.stderr


def test_help_loads_nothing_heavy():
    program = (
        "import sys; from k2_offload.cli.main import app; "
        "print({'airflow', 'pyiceberg', 'pyarrow', 'sqlalchemy', 'structlog'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
