"""The section of Airflow's configuration: every default, every variable, and what is refused."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from airflow.configuration import conf

from k2_offload.adapters.settings import Settings, check_airflow, load_settings
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


def test_the_token_may_come_from_a_command_and_is_hidden_where_airflow_shows_its_configuration(monkeypatch):
    conf.sensitive_config_values.discard(("k2_offload", "metrics_token"))
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN_CMD", "echo from-a-command")
    assert load_settings().metrics_token == "from-a-command"
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN", "in-clear")
    assert load_settings().metrics_token == "in-clear"
    assert "in-clear" not in str(conf.as_dict(display_sensitive=False))
    assert "in-clear" not in repr(load_settings())


@pytest.mark.parametrize(
    ("setting", "text"),
    [*(("parallel_tables", text) for text in ["0", "-1", "many", "1.5"]), ("task_timeout_seconds", "119")],
)
def test_a_number_that_is_none_or_too_small_is_refused_with_its_variable(monkeypatch, setting, text):
    monkeypatch.setenv(variable(setting), text)
    with pytest.raises(ConfigurationError, match=f"{setting} is '{text}'.*{variable(setting)}"):
        load_settings()


@pytest.mark.parametrize(
    ("setting", "known"),
    [
        ("cold_reader", "clickhouse, worker"),
        ("runner", "spark-submit, docker, kubernetes"),
        ("log_format", "text, json"),
    ],
)
def test_a_word_that_nobody_knows_is_refused_with_those_that_are_known(monkeypatch, setting, known):
    monkeypatch.setenv(variable(setting), "spark")
    with pytest.raises(ConfigurationError, match=f"{setting} is 'spark', not one of: {known}"):
        load_settings()


@pytest.mark.parametrize(
    ("installed", "refused"),
    [
        ({"apache-airflow": "2.11.0"}, "2.11.0"),
        ({"apache-airflow": "3.2.1", "apache-airflow-core": "3.2.1"}, "3.2.1"),
        ({"apache-airflow-core": "3.3.2"}, None),
        ({"apache-airflow-core": "3.10.0rc1"}, None),
    ],
)
def test_an_airflow_that_is_too_old_is_refused_with_its_version(installed, refused):
    def version_of(distribution):
        if distribution not in installed:
            raise PackageNotFoundError(distribution)
        return installed[distribution]

    if refused is None:
        check_airflow(version_of)
    else:
        with pytest.raises(ConfigurationError, match=f"needs Airflow 3.3 or newer, and this is Airflow {refused}"):
            check_airflow(version_of)


@pytest.mark.parametrize("name", ["a b", "k2_lake, url = 'https://elsewhere'", "k2`", "1st"])
def test_a_named_collection_is_a_name_and_no_more(monkeypatch, name):
    monkeypatch.setenv(variable("lake_collection"), name)
    with pytest.raises(ConfigurationError, match="not a name of letters"):
        load_settings()
