"""spark-submit as the offload operator calls it, for applications that tests and benchmarks start by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from k2_offload.adapters import connections, spark_submit
from k2_offload.adapters.settings import load_settings
from k2_offload.core.job_connections import JobConnections


def submit_command(
    application: Path,
    *arguments: str,
    java_options: str | None = None,
    master: str = "local[2]",
    conf: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """The command line.

    :param java_options: of the driver; as for a job that exports when left out
    :param conf: Spark's settings beside those of every job
    """
    settings = load_settings()
    if java_options is None:
        java_options = spark_submit.driver_options(settings.spark_class_archive)
    else:
        java_options = f"{spark_submit.LOGGING} {java_options}".rstrip()
    settings_of_all = {"spark.ui.enabled": "false", **conf, "spark.driver.extraJavaOptions": java_options}
    return spark_submit.command(
        settings.spark_binary, master, settings_of_all, settings.spark_jars, str(application), *arguments
    )


def submit_environment() -> Mapping[str, str]:
    """This process's environment, with Spark's Python and the connections."""
    settings = load_settings()
    return {
        **os.environ,
        **spark_submit.environment(settings.spark_python),
        JobConnections.VARIABLE: connections.job_connections(settings).to_json(),
    }
