"""Prometheus and amtool, for tests of the alerts: `python -m embedded.install.prometheus`, after the rest of set-up.

They are Debian's, unpacked below this folder: nothing is installed, and no server is started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from embedded.install.layout import ROOT
from embedded.install.steps import say

PROGRAMS = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
}
"""By name, the package of each."""

FOLDER = ROOT / ".state" / "prometheus"
MISSING = (
    "Prometheus and amtool, which the tests of the alerts run, are not installed. On Debian or Ubuntu: "
    "sudo apt-get update && sudo apt-get install --no-install-recommends prometheus prometheus-alertmanager"
)


def find(program: str) -> str | None:
    """The path of one of :data:`PROGRAMS`: the machine's, or what :func:`main` has unpacked."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{FOLDER / 'usr/bin'}")


def main() -> int:
    """Fetch them unless they are there, and return an exit code."""
    if all(map(find, PROGRAMS)):
        return 0
    if shutil.which("apt-get"):
        say("Fetching Debian's packages of Prometheus and Alertmanager for the tests of the alerts.")
        for prepare in ([], [["apt-get", "update", "-qq"]] if os.geteuid() == 0 else []):
            if all(_succeeds(command, ROOT) for command in prepare) and _fetch():
                return 0
    say(MISSING)
    return 1


def _fetch() -> bool:
    missing = sorted({package for program, package in PROGRAMS.items() if not find(program)})
    with tempfile.TemporaryDirectory() as folder:
        if not _succeeds(["apt-get", "download", "-qq", *missing], Path(folder)):
            return False
        unpacked = (_succeeds(["dpkg", "--extract", str(each), str(FOLDER)], ROOT) for each in Path(folder).iterdir())
        return all(unpacked) and all(map(find, PROGRAMS))


def _succeeds(command: list[str], folder: Path) -> bool:
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        say(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
