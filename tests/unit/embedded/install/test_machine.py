from __future__ import annotations

from pathlib import Path

import pytest

from embedded.install.machine import java_problem, python_problem


def _make_java(folder: Path, script: str) -> Path:
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    return java


def test_java_of_the_path_is_taken(tmp_path: Path) -> None:
    java = _make_java(tmp_path, "echo 'openjdk version \"17.0.2\"' >&2")
    assert java_problem({"PATH": str(java.parent)}) is None


def test_java_home_goes_before_the_path(tmp_path: Path) -> None:
    good = _make_java(tmp_path / "good", "echo 'openjdk version \"21.0.2\"' >&2")
    _make_java(tmp_path / "old", "echo 'openjdk version \"11.0.2\"' >&2")
    problem = java_problem({"PATH": str(good.parent), "JAVA_HOME": str(tmp_path / "old")})
    assert problem is not None
    assert "Java 11 was found" in problem
    assert f"JAVA_HOME={tmp_path / 'old'}" in problem


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'openjdk version \"11.0.2\"' >&2", "Java 11 was found"),
        ("echo 'openjdk version \"25.0.1\"' >&2", "Java 25 was found"),
        ("echo broken; exit 1", "does not tell its version"),
    ],
)
def test_unfit_java_is_refused_with_what_to_type(tmp_path: Path, script: str, message: str) -> None:
    java = _make_java(tmp_path, script)
    problem = java_problem({"PATH": str(java.parent)})
    assert problem is not None
    assert message in problem
    assert "apt-get install default-jre-headless" in problem


def test_missing_java_is_named(tmp_path: Path) -> None:
    assert "Java was not found" in str(java_problem({"PATH": str(tmp_path)}))
    assert "cannot be run" in str(java_problem({"PATH": "", "JAVA_HOME": str(tmp_path / "nothing")}))


@pytest.mark.parametrize("version", [(3, 11), (3, 14)])
def test_supported_python_will_do(version: tuple[int, int]) -> None:
    assert python_problem(version, has_ensurepip=True) is None


def test_unfit_python_is_refused_with_what_to_type() -> None:
    assert "Python 3.9 was found; 3.11 to 3.14 is needed" in str(python_problem((3, 9), has_ensurepip=True))
    assert "Python 3.15 was found" in str(python_problem((3, 15), has_ensurepip=True))
    assert "apt-get install python3.12-venv" in str(python_problem((3, 12), has_ensurepip=False))
