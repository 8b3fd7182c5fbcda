"""``k2 class-archive``: make the file that lets Spark's virtual machine start faster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from k2_offload.adapters import spark_submit
from k2_offload.adapters.settings import load_settings
from k2_offload.cli.console import command, errors, print_json, screen
from k2_offload.cli.options import JsonOption
from k2_offload.core.errors import ConfigurationError, OffloadError


@command
def class_archive(as_json: JsonOption = False) -> None:
    """Make the class archive that `spark_class_archive` names; again after Java, Spark or a jar has changed.

    Jobs start a second sooner with it. Java ignores one that is missing or does not fit: nothing depends on it.

    Example: [bold]k2 class-archive[/bold]
    """
    settings = load_settings()
    if not settings.spark_class_archive:
        raise ConfigurationError("there is no [k2_offload] spark_class_archive; name the file there that shall be made")
    file = Path(settings.spark_class_archive)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename}: {error.strerror}; correct [k2_offload] spark_class_archive"
        ) from None
    arguments = spark_submit.class_archive_command(settings.spark_binary, settings.spark_jars, file)
    environment = {**os.environ, **spark_submit.environment(settings.spark_python)}
    try:
        with errors.status("a Spark job that loads every class"):
            done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}; `k2 validate` checks what Spark needs") from None
    if done.returncode != 0 or not file.is_file():
        raise OffloadError(
            f"the class archive was not made, `k2 validate` checks what Spark needs:\n{done.stderr[-2000:]}"
        )
    size_bytes = file.stat().st_size
    if as_json:
        print_json({"file": str(file), "size_bytes": size_bytes})
    else:
        screen.print(f"{file}: {size_bytes / 2**20:.0f} MiB", markup=False, soft_wrap=True)
