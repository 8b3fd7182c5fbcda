"""The object store and the REST catalog that `make test-stack-real` starts: production's, as processes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from embedded.install.jars import fetch_jars
from embedded.install.layout import Layout
from embedded.install.machine import dotted
from embedded.install.steps import SCHEME, STAMP_NAME, SetupError, fingerprint, fresh_log, is_current, run, say

OLDEST_GO = (1, 25)
_PROGRAM = "github.com/versity/versitygw/cmd/versitygw"


def install_lake_servers(layout: Layout, cache: Path) -> bool:
    """Build the object store, and fetch the jars of the REST catalog and what Spark needs for S3.

    :param cache: Ivy's own cache, shared between checkouts
    :returns: whether there was anything to do
    :raises SetupError: Go is missing, or a step failed
    """
    if problem := go_problem(_go_version()):
        raise SetupError(f"{problem}\nThe object store was not built.")
    s3_module = layout.root / "docker" / "lake_jars.xml"
    rest_module = layout.requirements / "rest_catalog.xml"
    changed = [
        _build_object_store(layout),
        fetch_jars(layout, "Spark's jars for S3", s3_module, layout.s3_jars, cache),
        fetch_jars(layout, "REST catalog", rest_module, layout.rest_catalog, cache),
    ]
    return any(changed)


def go_problem(version: tuple[int, ...] | None) -> str | None:
    """Say what is wrong with a Go of this version, or None when it will do.

    :param version: ``None`` if there is none
    """
    if version is not None and version >= OLDEST_GO:
        return None
    found = "Go was not found" if version is None else f"Go {dotted(version)} was found"
    return (
        f"{found}; {dotted(OLDEST_GO)} or newer builds the object store.\n"
        "  On Debian or Ubuntu, where their package is that new (Debian 14): sudo apt-get install golang-go"
    )


def _go_version() -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(
            ["go", "env", "GOVERSION"], capture_output=True, text=True, check=False, env=_variables()
        )
    except OSError:
        return None
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else None


def _variables() -> dict[str, str]:
    # As the module's files say, and no other: neither a toolchain nor a version is chosen on the way.
    return {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOWORK": "off"}


def _build_object_store(layout: Layout) -> bool:
    module = layout.requirements / "object_store"
    folder = layout.object_store.parent
    expected = fingerprint(SCHEME, module / "go.mod", module / "go.sum")
    if is_current(folder, expected) and layout.object_store.is_file():
        return False
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    log = fresh_log(layout.logs, "setup-object-store")
    run("Object store", ["go", "-C", module, "build", "-o", layout.object_store, _PROGRAM], log, _variables())
    (folder / STAMP_NAME).write_text(expected)
    say(f"  Object store: built in {time.monotonic() - started:.0f} s")
    return True
