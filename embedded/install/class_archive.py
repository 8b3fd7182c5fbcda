"""The class archive of the offload job: made once, by a job that touches everything, from the jars as they are."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from embedded.install.layout import Layout
from embedded.install.machine import find_java
from embedded.install.steps import SCHEME, STAMP_NAME, fingerprint, fresh_log, is_current, run, say


def install_class_archive(layout: Layout) -> bool:
    """Make the archive where there is none, or Java, Spark, a jar or the job has changed since.

    :returns: whether there was anything to do
    :raises SetupError: the job failed
    """
    sys.path.insert(0, str(layout.root / "plugins"))  # set-up runs before anything is installed
    from k2_offload import spark_application  # noqa: PLC0415

    expected = fingerprint(
        SCHEME,
        _java_version(),
        *(f"{jar.name} {jar.stat().st_mtime_ns}" for jar in sorted(layout.jars.glob("*.jar"))),
        *layout.spark.locks,
        spark_application.CLASS_ARCHIVE,
        spark_application.JOBS / "cold_table.py",
    )
    folder = layout.class_archive.parent
    if is_current(folder, expected) and layout.class_archive.is_file():
        return False
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    submit = str(layout.spark.path / "bin" / "spark-submit")
    command = spark_application.class_archive_command(submit, layout.spark_jars, layout.class_archive)
    environment = {**os.environ, **spark_application.environment(str(layout.spark.python))}
    run("Class archive", command, fresh_log(layout.logs, "setup-class-archive"), environment)
    (folder / STAMP_NAME).write_text(expected)
    say(f"  Class archive: made in {time.monotonic() - started:.0f} s")
    return True


def _java_version() -> str:
    java = find_java(os.environ) or "java"
    return subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
