"""The section of Airflow's configuration: every default, every variable, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.core.errors import ConfigurationError


def variable(setting):
    return f"AIRFLOW__K2_OFFLOAD__{setting.upper()}"


def test_what_is_empty_or_not_set_has_its_default(monkeypatch):
    for setting in ("clickhouse_conn_id", "tables_file", "parallel_tables"):
        monkeypatch.setenv(variable(setting), "")
    settings, defaults = load_settings(), Settings()
    assert (settings.clickhouse_conn_id, settings.tables_file, settings.parallel_tables) == (
        defaults.clickhouse_conn_id,
        defaults.tables_file,
        defaults.parallel_tables,
    )
    assert defaults.tables_file.is_file()


def test_what_is_set_is_taken_in_its_type(monkeypatch):
    monkeypatch.setenv(variable("tables_file"), "/somewhere/tables.yaml")
    monkeypatch.setenv(variable("parallel_tables"), "7")
    monkeypatch.setenv(variable("lake_collection"), "other_lake")
    settings = load_settings()
    assert settings.tables_file == Path("/somewhere/tables.yaml")
    assert (settings.parallel_tables, settings.lake_collection) == (7, "other_lake")


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_number_of_tables_that_is_none_is_refused_with_its_variable(monkeypatch, text):
    monkeypatch.setenv(variable("parallel_tables"), text)
    with pytest.raises(ConfigurationError, match=f"parallel_tables is '{text}'.*AIRFLOW__K2_OFFLOAD__PARALLEL_TABLES"):
        load_settings()
