"""spark-submit as the offload operator calls it, for applications that tests and benchmarks start by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from k2_offload.adapters import airflow_config
from k2_offload.core.connections import JobConnections

SPARK_JOBS = Path(__file__).parents[1] / "include" / "spark_jobs"
SHORT_JOB_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def submit_command(application: Path, *arguments: str, java_options: str = SHORT_JOB_OPTIONS) -> list[str]:
    """The command line, for two cores of this machine."""
    settings = airflow_config.load_settings()
    logging = f"-Dlog4j2.configurationFile={(SPARK_JOBS / 'log4j2.properties').as_uri()}"
    return [
        settings.spark_binary,
        *("--master", "local[2]", "--conf", "spark.ui.enabled=false"),
        *("--conf", f"spark.driver.extraJavaOptions={logging} {java_options}".rstrip()),
        *("--driver-class-path", settings.spark_jars.replace(",", ":")),
        str(application),
        *arguments,
    ]


def submit_environment() -> Mapping[str, str]:
    """This process's environment, with Spark's Python and the connections."""
    settings = airflow_config.load_settings()
    return {
        **os.environ,
        "PYSPARK_PYTHON": settings.spark_python,
        "PYSPARK_DRIVER_PYTHON": settings.spark_python,
        JobConnections.VARIABLE: airflow_config.load_job_connections(settings).to_json(),
    }
