"""The Alertmanager that `make test-stack-real` starts: production's version, as a process, without its page."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

from embedded.install.go import check_go, go_variables
from embedded.install.layout import Layout
from embedded.install.steps import SCHEME, STAMP_NAME, SetupError, fingerprint, fresh_log, is_current, run, say

_MODULE = "github.com/prometheus/alertmanager"


def install_alertmanager(layout: Layout) -> bool:
    """Build it of its source.

    Its page comes from npm and is not in the source: an empty one is put in its place.

    :returns: whether there was anything to do
    :raises SetupError: Go is missing, or a step failed
    """
    module = layout.requirements / "alertmanager"
    program = layout.alertmanager
    folder = program.parent
    expected = fingerprint(SCHEME, module / "go.mod", module / "go.sum")
    if is_current(folder, expected) and program.is_file():
        return False
    check_go()
    started = time.monotonic()
    log = fresh_log(layout.logs, "setup-alertmanager")
    fetch = ["go", "-C", str(module), "mod", "download", "-json", _MODULE]
    fetched = subprocess.run(fetch, capture_output=True, text=True, check=False, env=go_variables())
    if fetched.returncode:
        raise SetupError(f"Alertmanager: its source cannot be had: {fetched.stderr or fetched.stdout}")
    shutil.rmtree(folder, ignore_errors=True)
    source = folder / "source"
    shutil.copytree(json.loads(fetched.stdout)["Dir"], source, copy_function=shutil.copyfile)
    for each in (source, *source.rglob("*")):
        each.chmod(0o755 if each.is_dir() else 0o644)
    (source / "ui/app/dist").mkdir(parents=True)
    (source / "ui/app/dist/index.html").touch()
    run("Alertmanager", ["go", "-C", source, "build", "-o", program, "./cmd/alertmanager"], log, go_variables())
    shutil.rmtree(source)
    (folder / STAMP_NAME).write_text(expected)
    say(f"  Alertmanager: built in {time.monotonic() - started:.0f} s")
    return True
