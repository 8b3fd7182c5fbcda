"""spark-submit as Airflow's operator calls it, for applications under test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from k2_offload.adapters import airflow_config
from k2_offload.core.connections import JobConnections

SPARK_JOBS = Path(__file__).parents[2] / "include" / "spark_jobs"
JOB = SPARK_JOBS / "offload.py"
FAULTY_JOB = Path(__file__).with_name("job.py")
COMPACTION = Path(__file__).with_name("compact.py")


def submit(application, *arguments, variables=None, stdout=subprocess.PIPE):
    """Start an application on two cores; standard error goes where standard output goes."""
    settings = airflow_config.load_settings()
    environment = {
        **os.environ,
        **(variables or {}),
        "PYSPARK_PYTHON": settings.spark_python,
        "PYSPARK_DRIVER_PYTHON": settings.spark_python,
        JobConnections.VARIABLE: airflow_config.load_job_connections(settings).to_json(),
    }
    options = f"-Dlog4j2.configurationFile={(SPARK_JOBS / 'log4j2.properties').as_uri()} -XX:TieredStopAtLevel=1"
    return subprocess.Popen(
        [
            settings.spark_binary,
            *("--master", "local[2]", "--conf", "spark.ui.enabled=false"),
            *("--conf", f"spark.driver.extraJavaOptions={options}"),
            *("--driver-class-path", settings.spark_jars.replace(",", ":")),
            str(application),
            *arguments,
        ],
        env=environment,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
    )
