"""The application for spark-submit under test: the real offload.py, with faults armed. Takes the same arguments.

The faults come as JSON in the variable K2_TEST_FAULTS. What waits is woken by the file that K2_TEST_WAKE names.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "include" / "spark_jobs"))

import offload  # noqa: F401 - finds the package
from k2_offload.core import fault_points
from k2_offload.core.errors import Unreachable
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.job_connections import JobConnections
from offload_job import jvm
from offload_job.application import main
from offload_job.cold_table_writer import open_catalog
from tests.faults.hook import Fault, Faults

_machine = []


def start_jvm():
    """As the job does, and keep it for the faults."""
    _machine.append(jvm.start_jvm())
    return _machine[0]


def lose_reply(point):
    if point is FaultPoint.FILE_EXPORTED:
        raise Unreachable("ClickHouse", "k2_clickhouse", "the reply was lost")
    # A Java call that fails, as py4j reports it: what a commit raises whose reply is lost. Of a kind that pyspark
    # does not translate once a session is up.
    _machine[0].java.util.Optional.empty().get()


def interfere(table):
    """Commit as an unrelated writer would: a snapshot of its own on main."""
    connections = JobConnections.from_json(os.environ[JobConnections.VARIABLE])
    catalog = open_catalog(_machine[0], connections.catalog)
    identifier = _machine[0].org.apache.iceberg.catalog.TableIdentifier.parse(f"cold.{table}")
    catalog.loadTable(identifier).newAppend().set("writer", "another").commit()


if __name__ == "__main__":
    faults = [Fault.from_json(values) for values in json.loads(os.environ["K2_TEST_FAULTS"])]
    fault_points.arm(Faults(faults, lose_reply, interfere, awake=Path(os.environ["K2_TEST_WAKE"]).exists))
    sys.exit(main(start_jvm))
