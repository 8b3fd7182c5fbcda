"""Applications under test, submitted as Airflow's operator does it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from embedded.spark import submit_command, submit_environment
from k2_offload.adapters import spark_submit

JOB = spark_submit.OFFLOAD
FAULTY_JOB = Path(__file__).with_name("job.py")
WARM_JOB = Path(__file__).with_name("warm_job.py")
"""For :class:`embedded.warm_spark.WarmSpark`."""


def submit(application, *arguments, variables=None, stdout=subprocess.PIPE, **spark):
    """Start an application; standard error goes where standard output goes.

    :param spark: for :func:`embedded.spark.submit_command`
    """
    return subprocess.Popen(
        submit_command(application, *arguments, **spark),
        env={**submit_environment(), **(variables or {})},
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
    )
