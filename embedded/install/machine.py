"""What the machine must bring: Python with venv, and Java for Spark. Checked before anything is downloaded."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping

from embedded.install.steps import SetupError

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)
OLDEST_JAVA, NEWEST_JAVA = 17, 23  # of Spark 4.1: its Hadoop calls what Java 24 no longer has


def python_problem(version: tuple[int, int], *, has_ensurepip: bool) -> str | None:
    """Say what is wrong with a Python of this version, or None when it will do."""
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        return (
            f"Python {dotted(version)} was found; {dotted(OLDEST_PYTHON)} to {dotted(NEWEST_PYTHON)} is needed.\n"
            "  On Debian or Ubuntu: sudo apt-get install python3 python3-venv\n"
            "  Another one that is installed already: make setup PYTHON=/path/to/python3.12"
        )
    if not has_ensurepip:
        return (
            f"Python {dotted(version)} has no venv module (Debian and Ubuntu package it separately).\n"
            f"  Type: sudo apt-get install python{dotted(version)}-venv"
        )
    return None


def parse_java_version(text: str) -> int | None:
    """Return the major version that `java -version` prints (8 for "1.8.0_392"), or None if there is none in `text`."""
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(found.group(1)) if found else None


def find_java(environment: Mapping[str, str]) -> str | None:
    """The Java that Spark would run: JAVA_HOME's, else the first on PATH; None where there is neither."""
    home = environment.get("JAVA_HOME")
    return f"{home}/bin/java" if home else shutil.which("java", path=environment.get("PATH"))


def java_problem(environment: Mapping[str, str]) -> str | None:
    """Say what is wrong with the Java that Spark would find (JAVA_HOME first, then PATH), or None when it will do."""
    install_hint = (
        "  On Debian or Ubuntu: sudo apt-get install default-jre-headless\n"
        "  Another one that is installed already: JAVA_HOME=/path/to/it make setup"
    )
    home = environment.get("JAVA_HOME")
    java = find_java(environment)
    needed = f"Spark needs Java {OLDEST_JAVA} to {NEWEST_JAVA}.\n{install_hint}"
    if java is None:
        return f"Java was not found (JAVA_HOME, then PATH); {needed}"
    source = f"JAVA_HOME={home}" if home else f"PATH: {java}"
    try:
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"Java ({source}) cannot be run: {error}.\n{install_hint}"
    version = parse_java_version(shown.stderr + shown.stdout)
    if version is None:
        return f"Java ({source}) does not tell its version: `{java} -version` failed.\n{install_hint}"
    if not OLDEST_JAVA <= version <= NEWEST_JAVA:
        return f"Java {version} was found ({source}); {needed}"
    return None


def check_machine(environment: Mapping[str, str]) -> None:
    """Raise SetupError naming everything that is missing on this machine, all at once."""
    problems = [
        python_problem(sys.version_info[:2], has_ensurepip=importlib.util.find_spec("ensurepip") is not None),
        java_problem(environment),
    ]
    found = [problem for problem in problems if problem]
    if found:
        raise SetupError("\n".join([*found, "Nothing was installed."]))


def dotted(version: tuple[int, ...]) -> str:
    """(3, 11) → "3.11"."""
    return ".".join(map(str, version))
