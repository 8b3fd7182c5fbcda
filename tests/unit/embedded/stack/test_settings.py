from __future__ import annotations

from pathlib import Path

import pytest

from embedded.stack import Ports, StackError, StackSettings


def test_defaults_avoid_the_usual_ports_of_the_servers_they_stand_for(tmp_path: Path) -> None:
    settings = StackSettings.from_environment({}, root=tmp_path)
    assert settings.ports == Ports(clickhouse_native=19000, clickhouse_http=18123, postgres=15432, airflow=8080)
    assert settings.state == tmp_path / ".state"
    assert settings.clickhouse_version == "26.9"


def test_variables_change_what_they_name(tmp_path: Path) -> None:
    given = {"K2_STATE_DIR": str(tmp_path / "elsewhere"), "K2_POSTGRES_PORT": "5433", "K2_CLICKHOUSE_VERSION": "25.8"}
    settings = StackSettings.from_environment(given)
    assert settings.state == tmp_path / "elsewhere"
    assert settings.ports == Ports(postgres=5433)
    assert settings.clickhouse_version == "25.8"


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "80 80"])
def test_impossible_port_is_refused_by_its_variable(text: str) -> None:
    with pytest.raises(StackError, match="K2_AIRFLOW_PORT="):
        StackSettings.from_environment({"K2_AIRFLOW_PORT": text})


def test_equal_ports_are_refused() -> None:
    with pytest.raises(StackError, match=r"K2_POSTGRES_PORT and K2_AIRFLOW_PORT are both 15432"):
        StackSettings.from_environment({"K2_AIRFLOW_PORT": "15432"})


def test_running_stack_keeps_its_ports_until_it_is_down(tmp_path: Path) -> None:
    started = StackSettings.from_environment({"K2_STATE_DIR": str(tmp_path), "K2_AIRFLOW_PORT": "8081"})
    started.run_folder.mkdir()
    started.remember()
    later = StackSettings.from_environment({"K2_STATE_DIR": str(tmp_path), "K2_POSTGRES_PORT": "5433"})
    assert later.ports == Ports(airflow=8081, postgres=5433)
    started.forget()
    assert StackSettings.from_environment({"K2_STATE_DIR": str(tmp_path)}).ports == Ports()


def test_damaged_memory_of_a_running_stack_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text('{"ports": ')
    assert StackSettings.from_environment({"K2_STATE_DIR": str(tmp_path)}).ports == Ports()
