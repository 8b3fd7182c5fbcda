"""Go, which builds the servers of production that are written in it."""

from __future__ import annotations

import os
import re
import subprocess

from embedded.install.machine import dotted
from embedded.install.steps import SetupError

OLDEST_GO = (1, 25)


def check_go() -> None:
    """Nothing, where Go is new enough.

    :raises SetupError: it is missing or old; the message has the command that installs it
    """
    if problem := go_problem(_go_version()):
        raise SetupError(f"{problem}\nThe servers of `make test-stack-real` were not built.")


def go_problem(version: tuple[int, ...] | None) -> str | None:
    """Say what is wrong with a Go of this version, or None when it will do.

    :param version: ``None`` if there is none
    """
    if version is not None and version >= OLDEST_GO:
        return None
    found = "Go was not found" if version is None else f"Go {dotted(version)} was found"
    return (
        f"{found}; {dotted(OLDEST_GO)} or newer builds the object store and Alertmanager.\n"
        "  On Debian or Ubuntu, where their package is that new (Debian 14): sudo apt-get install golang-go"
    )


def go_variables() -> dict[str, str]:
    """The environment of Go's command: as the module's files say, and neither a toolchain nor a version is chosen."""
    return {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false", "GOWORK": "off"}


def _go_version() -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(
            ["go", "env", "GOVERSION"], capture_output=True, text=True, check=False, env=go_variables()
        )
    except OSError:
        return None
    found = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else None
