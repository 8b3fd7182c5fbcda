"""The class archive of the offload job: made once, by a job that touches everything, from the jars as they are."""

from __future__ import annotations

import os
import subprocess
import time

from embedded.install.layout import Layout
from embedded.install.steps import SCHEME, STAMP_NAME, fingerprint, fresh_log, is_current, run, say
from k2_offload.adapters import spark_submit
from k2_offload.adapters.java import find_java


def install_class_archive(layout: Layout) -> bool:
    """Make the archive where there is none, or Java, Spark, a jar or the job has changed since.

    :returns: whether there was anything to do
    :raises SetupError: the job failed
    """
    expected = fingerprint(
        SCHEME,
        _java_version(),
        *(f"{jar.name} {jar.stat().st_mtime_ns}" for jar in sorted(layout.jars.glob("*.jar"))),
        *layout.spark.locks,
        spark_submit.CLASS_ARCHIVE,
        *sorted((spark_submit.OFFLOAD.parent / "offload_job").rglob("*.py")),
    )
    folder = layout.class_archive.parent
    if is_current(folder, expected) and layout.class_archive.is_file():
        return False
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    submit = str(layout.spark.path / "bin" / "spark-submit")
    command = spark_submit.class_archive_command(submit, layout.spark_jars, layout.class_archive)
    environment = {**os.environ, **spark_submit.environment(str(layout.spark.python))}
    run("Class archive", command, fresh_log(layout.logs, "setup-class-archive"), environment)
    (folder / STAMP_NAME).write_text(expected)
    say(f"  Class archive: made in {time.monotonic() - started:.0f} s")
    return True


def _java_version() -> str:
    java = find_java(os.environ) or "java"
    return subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
