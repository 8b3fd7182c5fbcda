"""What the machine must bring: Python with venv, and Java for Spark. Checked before anything is downloaded."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

from embedded.install.steps import SetupError
from k2_offload.adapters.java import check_java
from k2_offload.core.errors import ConfigurationError

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 14)


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


def java_problem(environment: Mapping[str, str]) -> str | None:
    """Say what is wrong with the Java that Spark would find, or None when it will do."""
    try:
        check_java(environment)
    except ConfigurationError as problem:
        return str(problem)
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
