"""Secrets are random, for the owner only, and never replaced."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.docker.compose import ENVIRONMENT, ROOT, secret_names


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "docker").mkdir()
    shutil.copy(ROOT / "docker/write_env.py", tmp_path / "docker")
    shutil.copy(ROOT / ".env.example", tmp_path)
    return tmp_path


def write(project: Path) -> str:
    command = [sys.executable, str(project / "docker/write_env.py")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def values(project: Path) -> dict[str, str]:
    return dict(ENVIRONMENT.findall((project / ".env").read_text()))


def test_each_secret_is_random_and_for_the_owner_only(project: Path) -> None:
    said = write(project)
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    secrets = [values(project)[name] for name in secret_names()]
    assert len(set(secrets)) == len(secrets) >= 15
    assert all(re.fullmatch(r"[\w=-]{44}", secret) for secret in secrets)
    assert not any(secret in said for secret in secrets)


def test_what_is_there_stays(project: Path) -> None:
    write(project)
    before = (project / ".env").read_bytes()
    assert "left alone" in write(project)
    assert (project / ".env").read_bytes() == before


def test_what_a_newer_version_needs_is_added(project: Path) -> None:
    (project / ".env").write_text("# mine\nK2_AIRFLOW_PASSWORD=chosen\nK2_AIRFLOW_PORT=8081")
    (project / ".env").chmod(0o644)
    said = write(project)
    assert (project / ".env").read_text().startswith("# mine\nK2_AIRFLOW_PASSWORD=chosen\nK2_AIRFLOW_PORT=8081\n")
    assert "K2_CATALOG_TOKEN" in said
    assert "K2_AIRFLOW_PASSWORD" not in said
    assert stat.S_IMODE((project / ".env").stat().st_mode) == 0o600
    assert values(project).keys() == dict(ENVIRONMENT.findall((ROOT / ".env.example").read_text())).keys()
    assert all(values(project)[name] for name in secret_names())
