"""Which Python `make` takes for the set-up, with interpreters that only say their name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the project's Makefile, and nothing else."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def interpreter(path: Path, *, is_fit: bool = True) -> Path:
    """Write a program that passes the Makefile's check of the version, or does not, and else prints its own name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then exit {0 if is_fit else 1}; fi\necho "$0 $*"\n')
    path.chmod(0o755)
    return path


def make(checkout: Path, *arguments: str) -> str:
    path = os.pathsep.join([str(checkout / "bin"), os.environ["PATH"]])
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "MAKEFLAGS", "MAKELEVEL")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(
        command, cwd=checkout, env={**variables, "PATH": path}, capture_output=True, text=True, check=True
    ).stdout


def test_the_newest_python_on_the_path_is_taken(checkout: Path) -> None:
    for version in ("3.11", "3.13", "3.12"):
        interpreter(checkout / f"bin/python{version}")
    interpreter(checkout / "bin/python3.14", is_fit=False)
    assert make(checkout, "setup") == f"{checkout}/bin/python3.13 -m embedded.install\n"


@pytest.mark.parametrize("target", ["setup", "ready"])
def test_what_was_chosen_once_stays_chosen(checkout: Path, target: str) -> None:
    """Or `make test-unit` would make all environments anew, with another Python than `make setup PYTHON=…` was told."""
    interpreter(checkout / "bin/python3.14")
    interpreter(checkout / ".venv/bin/python")
    assert make(checkout, target).startswith(f"{checkout}/.venv/bin/python -m embedded.install")


def test_the_python_that_is_named_goes_before_the_one_there_is(checkout: Path) -> None:
    interpreter(checkout / ".venv/bin/python")
    named = interpreter(checkout / "elsewhere/python3.12")
    assert make(checkout, "ready", f"PYTHON={named}") == f"{named} -m embedded.install --quiet\n"


def test_an_environment_whose_python_has_gone_is_passed_over(checkout: Path) -> None:
    interpreter(checkout / "bin/python3.14")
    gone = checkout / ".venv/bin/python"
    gone.parent.mkdir(parents=True)
    gone.symlink_to(checkout / "no/such/python")
    assert make(checkout, "ready") == f"{checkout}/bin/python3.14 -m embedded.install --quiet\n"
