from __future__ import annotations

import configparser
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from embedded.stack import Ports, StackSettings, airflow_home
from embedded.stack.airflow_services import own_variables, without_foreign_settings
from embedded.stack.secrets import Secrets


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    return StackSettings(state=tmp_path / "state folder", ports=Ports(1, 2, 3, 4))


@pytest.fixture
def secrets(settings: StackSettings) -> Secrets:
    settings.state.mkdir()
    return Secrets.load_or_make(settings.state)


def test_secrets_are_made_once_and_for_the_owner_only(settings: StackSettings, secrets: Secrets) -> None:
    assert Secrets.load_or_make(settings.state) == secrets
    assert (settings.state / "secrets.json").stat().st_mode & 0o777 == 0o600
    assert secrets.postgres_password not in repr(secrets)


def test_files_with_secrets_are_for_the_owner_only(settings: StackSettings, secrets: Secrets) -> None:
    airflow_home.write(settings, secrets)
    modes = {path.name: path.stat().st_mode & 0o777 for path in settings.airflow_home.iterdir()}
    assert modes == dict.fromkeys(
        ("airflow.cfg", "connections.json", "connections.json.sha256", "ui-passwords.json"), 0o600
    )


def test_connections_follow_the_ports_until_a_person_changes_them(settings: StackSettings, secrets: Secrets) -> None:
    file = airflow_home.connections_file(settings)
    airflow_home.write(settings, secrets)
    moved = replace(settings, ports=Ports(5, 6, 7, 8))
    airflow_home.write(moved, secrets)
    assert json.loads(file.read_text()) == airflow_home.connections(moved, secrets)
    assert not airflow_home.has_changed_connections(moved)

    changed = file.read_text().replace("127.0.0.1", "clickhouse.internal")
    file.write_text(changed)
    airflow_home.write(settings, secrets)
    assert file.read_text() == changed
    assert airflow_home.has_changed_connections(settings)

    file.unlink()
    airflow_home.write(settings, secrets)
    assert json.loads(file.read_text()) == airflow_home.connections(settings, secrets)
    assert not airflow_home.has_changed_connections(settings)


def test_connections_of_an_up_that_kept_no_checksum_are_known_again(settings: StackSettings, secrets: Secrets) -> None:
    airflow_home.write(settings, secrets)
    (settings.airflow_home / "connections.json.sha256").unlink()
    assert airflow_home.has_changed_connections(settings)
    airflow_home.write(settings, secrets)
    assert not airflow_home.has_changed_connections(settings)


def test_connections_lead_to_the_stacks_ports(settings: StackSettings, secrets: Secrets) -> None:
    found = airflow_home.connections(settings, secrets)
    assert found["k2_clickhouse"]["port"] == 1
    assert found["k2_clickhouse"]["extra_dejson"] == {"http_port": 2, "secure": False}
    assert found["k2_ledger"]["port"] == found["k2_iceberg"]["port"] == 3
    assert found["k2_iceberg"]["extra_dejson"]["warehouse"] == (settings.state / "warehouse").as_uri()


def test_configuration_survives_percent_signs(settings: StackSettings, secrets: Secrets) -> None:
    text = airflow_home.configuration_text(settings, replace(secrets, jwt_secret="50%"))
    parser = configparser.ConfigParser()
    parser.read_string(text)
    assert parser["api_auth"]["jwt_secret"] == "50%"
    assert json.loads(parser["secrets"]["backend_kwargs"])["connections_file_path"].startswith(str(settings.state))


def test_shell_lines_can_be_sourced_from_any_folder_name(settings: StackSettings, secrets: Secrets) -> None:
    airflow_home.write(settings, secrets)
    command = ["sh", "-c", '. "$1"; printf "%s" "$AIRFLOW_HOME"', "sh", settings.state / "env.sh"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout == str(settings.airflow_home)


def test_another_airflows_settings_do_not_reach_this_one(settings: StackSettings) -> None:
    shell = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "production",
        "AIRFLOW_CONN_K2_LEDGER": "production",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/x",
    }
    environment = without_foreign_settings(shell) | own_variables(settings)
    assert "production" not in environment.values()
    assert environment["HOME"] == "/x"
    assert "PYTHONDONTWRITEBYTECODE" not in environment
    assert environment["AIRFLOW_HOME"] == str(settings.airflow_home)
