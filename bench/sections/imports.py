"""What Airflow loads before a task of this project begins."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

from bench.harness.report import Figures, Section
from bench.harness.stack import Platform
from embedded.install.layout import ROOT

_PROGRAM = """
import json, sys, time
loaded, seconds, steps = set(sys.modules), {}, json.loads(sys.argv[1])
for name, statement in steps.items():
    started = time.perf_counter()
    exec(statement, {})
    seconds[name] = time.perf_counter() - started, len(set(sys.modules) - loaded)
    loaded = set(sys.modules)
print(json.dumps(seconds))
"""
_STEPS = {
    "Airflow: what any DAG file needs": "from airflow.sdk import DAG, BaseOperator",
    "Airflow: SparkSubmitOperator": (
        "from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator"
    ),
    "Airflow: ExternalTaskSensor": "from airflow.providers.standard.sensors.external_task import ExternalTaskSensor",
    "this package": "import k2_offload.airflow_tasks.layer_dag",
    "`dags/offload_layers.py`": f"import runpy; runpy.run_path({str(ROOT / 'dags' / 'offload_layers.py')!r})",
}


def measure_imports(_: Platform, rounds: int, __: Path) -> Section:
    """The DAG file, step by step, in a new process each time."""
    runs = [_run() for _ in range(rounds)]
    lines = [
        (name, f"{statistics.median(run[name][0] for run in runs):.2f}", f"{runs[0][name][1]:,}") for name in _STEPS
    ]
    parts = (Figures(("step", "seconds", "modules"), lines),)
    return Section("imports", "What Airflow loads before a task begins", parts, method(rounds))


def method(rounds: int) -> str:
    """How it is measured."""
    return (
        f"In a new process, medians of {rounds} rounds. Each step counts only what the steps before it have not "
        "loaded. Airflow's own task processes are forked from a process that has most of Airflow loaded, so they "
        "start sooner."
    )


def _run() -> dict[str, tuple[float, int]]:
    command = [sys.executable, "-c", _PROGRAM, json.dumps(_STEPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds: dict[str, tuple[float, int]] = json.loads(done.stdout.splitlines()[-1])
    return seconds
