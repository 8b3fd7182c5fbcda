"""The object store and the REST catalog that `make test-stack-real` starts: production's, as processes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from embedded.install.go import check_go, go_variables
from embedded.install.jars import fetch_jars
from embedded.install.layout import Layout
from embedded.install.steps import SCHEME, STAMP_NAME, fingerprint, fresh_log, is_current, run, say

_PROGRAM = "github.com/versity/versitygw/cmd/versitygw"


def install_lake_servers(layout: Layout, cache: Path) -> bool:
    """Build the object store, and fetch the jars of the REST catalog and what Spark needs for S3.

    :param cache: Ivy's own cache, shared between checkouts
    :returns: whether there was anything to do
    :raises SetupError: Go is missing, or a step failed
    """
    check_go()
    s3_module = layout.root / "docker" / "lake_jars.xml"
    rest_module = layout.requirements / "rest_catalog.xml"
    changed = [
        _build_object_store(layout),
        fetch_jars(layout, "Spark's jars for S3", s3_module, layout.s3_jars, cache),
        fetch_jars(layout, "REST catalog", rest_module, layout.rest_catalog, cache),
    ]
    return any(changed)


def _build_object_store(layout: Layout) -> bool:
    module = layout.requirements / "object_store"
    folder = layout.object_store.parent
    expected = fingerprint(SCHEME, module / "go.mod", module / "go.sum")
    if is_current(folder, expected) and layout.object_store.is_file():
        return False
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    log = fresh_log(layout.logs, "setup-object-store")
    run("Object store", ["go", "-C", module, "build", "-o", layout.object_store, _PROGRAM], log, go_variables())
    (folder / STAMP_NAME).write_text(expected)
    say(f"  Object store: built in {time.monotonic() - started:.0f} s")
    return True
