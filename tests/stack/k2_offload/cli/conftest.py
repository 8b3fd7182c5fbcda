"""``k2`` on tables of the test's own."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result

from tests.support.commands import run_k2
from tests.support.workbench import Workbench

TABLES_FILE = "AIRFLOW__K2_OFFLOAD__TABLES_FILE"
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


@dataclass
class Shell:
    """Runs ``k2`` on a table file of the test's own.

    :param workbench: makes and moves tables
    """

    workbench: Workbench
    tables_file: Path

    def tables(self, *specs: str) -> None:
        self.tables_file.write_text("tables:\n" + textwrap.indent("\n".join(specs), "  "))

    @property
    def environment(self):
        """For ``k2`` in a process of its own."""
        return {**self.workbench.stack.environment, TABLES_FILE: str(self.tables_file)}

    def run(self, *arguments: str, **environment: str) -> Result:
        """Whatever it ends with."""
        return run_k2(*arguments, environment={TABLES_FILE: str(self.tables_file), **environment})

    def k2(self, *arguments: str, exit_code: int = 0, **environment: str) -> Result:
        ran = self.run(*arguments, **environment)
        assert ran.exit_code == exit_code, ran.output
        return ran

    def json(self, *arguments: str, **options):
        result = self.k2(*arguments, "--json", **options)
        assert result.stdout, result.stderr
        return json.loads(result.stdout)

    def cold(self, table: str):
        return self.workbench.cold_catalog.load_table(f"cold.{table}")


@pytest.fixture
def shell(workbench: Workbench, tmp_path: Path) -> Shell:
    return Shell(workbench, tmp_path / "tables.yaml")


@pytest.fixture
def moved(shell: Shell) -> str:
    """A table of 1,000 trades, all of them in both tiers; returns its name."""
    table = shell.workbench.create_trades()
    shell.workbench.insert_trades(table, START, 1000)
    spec = shell.workbench.spec(table)
    shell.tables(spec)
    shell.workbench.move(shell.workbench.cycle(spec), table)
    return table
