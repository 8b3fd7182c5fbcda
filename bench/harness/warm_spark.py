"""The harness's side of the Spark application that stays up: ask it to move a plan, or to run SQL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from embedded.warm_spark import WarmSpark
from k2_offload.core.maintenance import Tidied
from k2_offload.core.maintenance_plan import MaintenancePlan
from k2_offload.core.plan import Plan, PlannedWindow

_APPLICATION = Path(__file__).with_name("spark_application.py")
_PARALLEL_TABLES = 4


class BenchSpark:
    """One application, for one request at a time."""

    def __init__(self, spark: WarmSpark) -> None:
        self._spark = spark

    def move(self, *tables: PlannedWindow) -> None:
        """Publish their windows.

        :raises RuntimeError: if one of them is not published, with the end of what the job printed
        """
        done, printed = self._spark.ask("move", Plan("bench", tables).to_json(), _PARALLEL_TABLES)
        if not done:
            raise RuntimeError(f"a window was not published:\n{printed[-4000:]}")

    def maintain(self, plan: MaintenancePlan) -> list[Tidied]:
        """Tidy the tables of a plan.

        :raises RuntimeError: if one of them has a problem
        """
        done: list[Tidied] = self._spark.ask("maintain", plan.to_json())
        if problems := [problem for each in done for problem in each.problems]:
            raise RuntimeError("\n".join(problems))
        return done

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        return self.timed_sql(statement)[1]

    def timed_sql(self, statement: str) -> tuple[float, list[tuple[Any, ...]]]:
        """Seconds from the statement's text to its last row, and the rows."""
        seconds, rows = self._spark.ask("timed_sql", statement)
        return seconds, rows


@contextmanager
def warm_spark() -> Iterator[BenchSpark]:
    """Start the application, with a long job's Java options; it ends with the block.

    What goes wrong in the block is raised with the end of the application's log.
    """
    with tempfile.TemporaryFile("w+") as log:
        try:
            with closing(WarmSpark(log, _APPLICATION)) as spark:
                yield BenchSpark(spark)
        except Exception as error:
            log.seek(0)
            error.add_note(f"The application's log ends:\n{log.read()[-4000:]}")
            raise
