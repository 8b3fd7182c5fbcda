"""``k2`` in a process of its own, on tables of the test's own."""

from __future__ import annotations

import json
import subprocess
import textwrap
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.catalog import load_catalog

from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from tests.stack.k2_offload.conftest import Bench

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


@dataclass
class Shell:
    """Runs ``k2`` on a table file of the test's own.

    :param bench: makes and moves tables
    """

    bench: Bench
    tables_file: Path

    def tables(self, *specs: str) -> None:
        self.tables_file.write_text("tables:\n" + textwrap.indent("\n".join(specs), "  "))

    @property
    def environment(self):
        return {**self.bench.stack.environment, "AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(self.tables_file)}

    def k2(self, *arguments: str, exit_code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            ["k2", *arguments],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert result.returncode == exit_code, result.stdout + result.stderr
        assert "Traceback" not in result.stdout + result.stderr
        return result

    def json(self, *arguments: str, **options):
        return json.loads(self.k2(*arguments, "--json", **options).stdout)

    def cold(self, table: str):
        catalog = self.bench.resources.enter_context(
            closing(load_catalog("demo", **connections.catalog_settings(load_settings()).pyiceberg))
        )
        return catalog.load_table(f"cold.{table}")


@pytest.fixture
def shell(bench: Bench, tmp_path: Path) -> Shell:
    return Shell(bench, tmp_path / "tables.yaml")


@pytest.fixture
def moved(shell: Shell) -> str:
    """A table of 1,000 trades, all of them in both tiers; returns its name."""
    table = shell.bench.create_trades()
    shell.bench.insert_trades(table, START, 1000)
    spec = shell.bench.spec(table)
    shell.tables(spec)
    shell.bench.move(shell.bench.cycle(spec), table)
    return table
