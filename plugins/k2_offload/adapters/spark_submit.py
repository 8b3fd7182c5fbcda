"""How this package starts its Spark applications: the same for the offload operator, set-up, tests and benchmarks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath

from k2_offload.files import SPARK_JOBS

OFFLOAD = SPARK_JOBS / "offload.py"
MAINTAIN = SPARK_JOBS / "maintain.py"
CLASS_ARCHIVE = SPARK_JOBS / "class_archive.py"


def _logging(jobs: PurePath) -> str:
    return f"-Dlog4j2.configurationFile={(jobs / 'log4j2.properties').as_uri()}"


LOGGING = _logging(SPARK_JOBS)
"""Warnings and errors only, and the whole in a file where :func:`full_log` names one."""

SHORT_JOB = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""A short job never earns back what the optimising compiler and several collector threads cost."""

_QUIET = "-Xlog:disable -Xlog:all=error:stderr"


def driver_options(class_archive: str = "", *, short: bool = True, jobs: PurePath = SPARK_JOBS) -> str:
    """Options of the driver's virtual machine, as ``spark.driver.extraJavaOptions`` takes them.

    :param class_archive: file with the job's classes as loaded before (JEP 350), which saves a third of the start.
        The virtual machine checks that it was made by the same Java from the same jars, and does without it otherwise
    :param short: whether the job is over in seconds
    :param jobs: the folder ``include/spark_jobs`` where the driver runs
    """
    # py4j never answers a call that ran out of memory; a process that has ended is noticed.
    options = [_logging(jobs), "-XX:+ExitOnOutOfMemoryError"]
    if short:
        options.append(SHORT_JOB)
    if class_archive:
        # Quiet: an archive that does not fit is told by `k2 validate`, not by a line in every task's log.
        options.append(f'"-XX:SharedArchiveFile={class_archive}" -Xshare:auto {_QUIET}')
    return " ".join(options)


def configuration(class_archive: str, *, short: bool, jobs: PurePath = SPARK_JOBS) -> dict[str, str]:
    """Spark's settings of every application, with the arguments of :func:`driver_options`."""
    options = driver_options(class_archive, short=short, jobs=jobs)
    return {"spark.ui.enabled": "false", "spark.driver.extraJavaOptions": options}


def command(
    binary: str, master: str, conf: Mapping[str, str], jars: str, application: str, *arguments: str, name: str = ""
) -> list[str]:
    """The command line of an application, as Airflow's operator composes it; run it with :func:`environment`.

    :param jars: paths with commas between
    """
    return [
        binary,
        *("--master", master),
        *(option for key, value in conf.items() for option in ("--conf", f"{key}={value}")),
        *("--driver-class-path", classpath(jars)),
        *(("--name", name) if name else ()),
        application,
        *arguments,
    ]


def classpath(jars: str) -> str:
    """What ``--driver-class-path`` takes.

    :param jars: paths with commas between
    """
    return jars.replace(",", ":")


def environment(python: str) -> dict[str, str]:
    """Variables that choose the Python of an application; it must have pyspark."""
    return {"PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}


def full_log(file: Path) -> dict[str, str]:
    """Variables that let an application keep the whole log of Spark and Iceberg in a file, which is added to."""
    return {"K2_OFFLOAD_SPARK_LOG": str(file), "K2_OFFLOAD_SPARK_LOG_LEVEL": "info"}


def class_archive_command(spark_binary: str, jars: str, class_archive: Path) -> list[str]:
    """The command that makes the class archive of :func:`driver_options`; run it with :func:`environment`.

    :param class_archive: the file to write; what is there is replaced
    """
    options = f'{driver_options()} "-XX:ArchiveClassesAtExit={class_archive}" {_QUIET}'
    return [
        spark_binary,
        *("--master", "local[1]"),
        *("--conf", f"spark.driver.extraJavaOptions={options}"),
        *("--driver-class-path", classpath(jars)),
        str(CLASS_ARCHIVE),
    ]
