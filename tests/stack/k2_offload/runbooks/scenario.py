"""What a test breaks and mends by the words of a runbook, and the Prometheus that looks on."""

from __future__ import annotations

import json
import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg
from airflow.api_fastapi.app import create_auth_manager
from fastapi import FastAPI

from k2_offload.core.dag_ids import watched_dags
from k2_offload.web.metrics_route import latest_observation, router
from k2_offload.work.observe import LatestObservation, look
from tests.support import free_ports
from tests.support.commands import run_k2
from tests.support.cycles import table_file
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.runbooks import DIVISOR, RESULTS_VARIABLE, Section
from tests.support.workbench import Workbench

TOKEN = "of-prometheus"


@dataclass
class Scenario:
    """What a test breaks and mends, by the words of one section.

    :param noted: what the page of results says of it
    :param real_runs: whether ``k2 run`` runs the DAGs; else their steps are taken here, with a Spark that is up
    """

    section: Section
    table: str
    workbench: Workbench
    prometheus: Prometheus
    tables_file: Path
    noted: dict
    spec: str = ""
    real_runs: bool = RESULTS_VARIABLE in os.environ
    fires_now: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self):
        self.use(self.entry())

    def entry(self, **changes):
        """The table's entry in the table file; a feed is silent after a minute."""
        return self.entry_of(self.table, **changes)

    def entry_of(self, table, **changes):
        return entry(self.workbench, table, **changes)

    def use(self, *specs):
        """From now on, the table file has these entries; the first one is that of the table."""
        self.spec = specs[0]
        self.tables_file.write_text(table_file(specs))

    @property
    def cycle(self):
        return self.workbench.cycle(self.spec)

    def insert(self, ago, count=100, table=None, **options):
        """Rows that came in then."""
        start = datetime.now(UTC) - ago
        sequence = int(start.timestamp())
        self.workbench.insert_trades(table or self.table, start, count, **{"start_sequence": sequence} | options)

    def fires(self, alert, of=None):
        """Wait until the alert fires: what was broken has been broken just now."""
        of = self.table if of is None else of
        after = self.prometheus.seconds_until(alert, of, fires=True)
        self.fires_now.add((alert, of))
        self.noted["alerts"].append([alert, after, None])

    def clears(self, alert, of=None):
        """Wait until it is over: what was broken has been mended just now."""
        of = self.table if of is None else of
        over = self.prometheus.seconds_until(alert, of, fires=False)
        self.fires_now.remove((alert, of))
        [entry] = [each for each in self.noted["alerts"] if each[0] == alert and each[2] is None]
        entry[2] = over

    def is_quiet(self, alert, of=None):
        """Whether the alert does not fire: neither before something is broken, nor by itself."""
        return (alert, self.table if of is None else of) not in self.prometheus.firing()

    def check(self, row=None, **placeholders):
        """Run what the runbook checks; returns what it says. It may end with 1: something is wrong."""
        return "\n".join(self._run("Check", row, (0, 1), placeholders))

    def fix(self, row=None, **placeholders):
        return "\n".join(self._run("Fix", row, (0,), placeholders))

    def verify(self, **placeholders):
        """Run what the runbook verifies: all of it ends with 0; and both tiers hold the same rows."""
        said = "\n".join(self._run("Verify", None, (0,), placeholders))
        self.noted["verified"] = True
        return said

    def fail_windows(self, times):
        """Plan and do not move, as a run whose job has died."""
        cycle = self.cycle
        for _ in range(times):
            assert cycle.plan(cycle.tables[self.table])
            cycle.commit(cycle.tables[self.table])

    def airflow(self, statement, *values):
        """Change Airflow's database, or the ledger in it."""
        with psycopg.connect(self.workbench.stack.ledger_dsn) as connection:
            return connection.execute(statement, values).rowcount

    def make_older(self, by, change=None):
        """All that has happened to the cold table was so much earlier.

        :param change: does what else is to be done with its metadata
        """
        cold = self.workbench.cold_table(self.table)
        file = self.workbench.path_of(self.table, cold.metadata_location)
        metadata = json.loads(file.read_text())
        milliseconds = by // timedelta(milliseconds=1)
        for each in (*metadata["snapshots"], *metadata["snapshot-log"], *metadata["metadata-log"]):
            each["timestamp-ms"] -= milliseconds
        metadata["last-updated-ms"] -= milliseconds
        if change is not None:
            change(metadata)
        file.write_text(json.dumps(metadata))
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)  # Hadoop's sum of what the file held before

    def scatter(self, days):
        """Move rows of some days in one window, of which each five minutes get a file of their own."""
        self.use(self.entry(warm_retention_days=30, max_file_rows=1))
        first = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days + 1)
        self.workbench.insert_trades(self.table, first, days * 288 * 2, step_micros=150_000_000)
        self.workbench.move(self.cycle, self.table)
        return days * 288

    def tables_equal(self):
        self.workbench.check(self.cycle, [self.table])

    def _run(self, step, row, exit_codes, placeholders):
        commands = self.section.commands(step, row)
        names = {"TABLE": self.table, "bronze_trades_kraken": self.table, "silver_trades": self.table} | placeholders
        for command in commands:
            text = re.sub("|".join(rf"\b{name}\b" for name in names), lambda found: names[found[0]], command.text)
            self.noted["commands"] += 1
            if command.language == "sql":
                yield from (str(self.workbench.sql(each)) for each in text.split(";") if each.strip())
            else:
                assert command.language == "k2", command
                only_looks = "--dry-run" in text or (step == "Fix" and text.startswith("k2 verify"))
                yield self.k2(*shlex.split(text)[1:], exit_codes=(0, 1) if only_looks else exit_codes)

    def k2(self, *arguments, exit_codes=(0,)):
        """Run a command as somebody who says yes; returns all that it says."""
        if arguments[0] == "run" and not self.real_runs:
            while self.workbench.move(self.cycle, self.table):
                pass
            return ""
        done = run_k2(*arguments, answer="y\n")
        assert done.exit_code in exit_codes, (arguments, done.output)
        return done.output


def entry(workbench, table, **changes):
    return workbench.spec(table, **{"out_of_order_seconds": 0, "idle_after_seconds": 60} | changes)


@contextmanager
def scraping(tables_file, folder, table, workbench, rows, ago) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the real route; what is seen is a second old at most, as long as looks end in time."""
    spec = entry(workbench, table)
    tables_file.write_text(table_file([spec]))
    workbench.insert_trades(table, datetime.now(UTC).replace(microsecond=0) - ago, rows)
    workbench.move(workbench.cycle(spec), table)
    create_auth_manager()  # as the API server does: it judges tokens that are not Prometheus'
    app = FastAPI()
    app.include_router(router)
    latest = LatestObservation(partial(look, watched_dags, time.monotonic), lambda: 20 * time.monotonic(), 0.8)
    app.dependency_overrides[latest_observation] = lambda: latest
    while latest.get() is None:  # loads Airflow's models
        pass
    with running_prometheus(app, TOKEN, folder, free_ports(2), DIVISOR) as running:
        yield running
