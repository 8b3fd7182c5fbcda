"""The offload job with a stop watch, for spark-submit with the same arguments.

It writes when each step began and ended, in seconds since 1970, as JSON into the file that K2_BENCH_STEPS names.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "include" / "spark_jobs"))

import offload  # noqa: F401 - finds the package
from k2_offload.adapters.clickhouse import ClickHouse
from offload_job import application, jvm, move
from offload_job.cold_table_writer import ColdTableWriter
from offload_job.transports import export


def start_time(pid: int) -> float:
    """When a process was started, by Linux's own record."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


# spark-submit becomes the virtual machine, which starts this.
steps: list[tuple[str, float, float]] = [
    ("start Java", start_time(os.getppid()), start_time(os.getpid())),
    ("start Python, import the job", start_time(os.getpid()), time.time()),
]


def watch(owner: Any, function: str, step: str) -> None:
    """Note when a function begins and ends."""
    original: Callable[..., Any] = getattr(owner, function)

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.time()
        try:
            return original(*arguments, **options)
        finally:
            steps.append((step, began, time.time()))

    setattr(owner, function, timed)


watch(jvm, "start_jvm", "open the catalog")
watch(application, "open_catalog", "open the catalog")
watch(ColdTableWriter, "__init__", "load the table")
watch(ClickHouse, "rows_per_slot", "count the rows")
watch(export, "run_export", "export")
watch(ColdTableWriter, "data_file", "read the footer")
watch(ColdTableWriter, "stage_files", "stage")
watch(move, "publish_window", "publish")
code = application.main(jvm.start_jvm)
Path(os.environ["K2_BENCH_STEPS"]).write_text(json.dumps(steps))
sys.exit(code)
