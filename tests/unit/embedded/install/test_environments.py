from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedded.install.environments import (
    environment_fingerprint,
    installer_variables,
    is_usable,
    link_project,
    write_k2_command,
)
from embedded.install.layout import ROOT, Environment, Layout
from embedded.install.steps import SetupError


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1 --hash=sha256:0")
    return Environment(title="Spark", path=tmp_path / "a folder" / "venv", locks=(lock,))


def test_changed_lock_file_asks_for_a_new_installation(environment: Environment) -> None:
    before = environment_fingerprint(environment)
    assert environment_fingerprint(environment) == before
    environment.locks[0].write_text("a==2 --hash=sha256:1")
    assert environment_fingerprint(environment) != before


def test_missing_and_broken_environments_are_not_usable(environment: Environment) -> None:
    assert not is_usable(environment)
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to("/nothing/here")
    assert not is_usable(environment)
    environment.python.unlink()
    environment.python.symlink_to(sys.executable)
    assert is_usable(environment)


def test_link_makes_both_packages_importable(environment: Environment) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.path], check=True)
    link_project(environment, ROOT)
    command = [environment.python, "-c", "import embedded.install, k2_offload.core; print(embedded.__file__)"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert shown.stdout.strip() == str(ROOT / "embedded" / "__init__.py")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "{root}/.state/airflow"),
        ({"K2_STATE_DIR": "/elsewhere"}, "/elsewhere/airflow"),
        ({"AIRFLOW_HOME": "/production", "K2_STATE_DIR": "/elsewhere"}, "/production"),
    ],
)
def test_k2_command_finds_its_airflow_home(
    environment: Environment, tmp_path: Path, given: dict[str, str], expected: str
) -> None:
    root = tmp_path / "a checkout"
    environment.python.parent.mkdir(parents=True)
    environment.python.write_text('#!/bin/sh\nprintf "%s|%s" "$AIRFLOW_HOME" "$3 $4"\n')
    environment.python.chmod(0o755)
    write_k2_command(environment, root)
    variables = {name: value for name, value in os.environ.items() if name not in {"AIRFLOW_HOME", "K2_STATE_DIR"}}
    shown = subprocess.run(
        [environment.path / "bin" / "k2", "status", "two words"],
        env=variables | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == f"{expected.format(root=root)}|status two words"


def test_mirror_configured_for_pip_serves_uv() -> None:
    assert installer_variables({"PIP_INDEX_URL": "mirror"})["UV_DEFAULT_INDEX"] == "mirror"
    assert installer_variables({"PIP_INDEX_URL": "mirror", "UV_DEFAULT_INDEX": "own"})["UV_DEFAULT_INDEX"] == "own"
    assert "UV_DEFAULT_INDEX" not in installer_variables({})


def test_unknown_clickhouse_version_lists_the_known_ones() -> None:
    with pytest.raises(SetupError, match=r"K2_CLICKHOUSE_VERSION=24\.3.*25\.8, 26\.9"):
        Layout.of(ROOT, "24.3")
