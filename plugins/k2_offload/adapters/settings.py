"""The package's settings: section ``[k2_offload]`` of Airflow's configuration."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from k2_offload.adapters.log_lines import FORMATS
from k2_offload.adapters.schedule import FORMS, read_schedule
from k2_offload.core.errors import ConfigurationError, wrong_setting
from k2_offload.core.limits import SHORTEST_TASK_SECONDS, TASK_SECONDS
from k2_offload.core.runners import RUNNERS
from k2_offload.files import IN_WHEEL, TABLES_FILE

_SECTION = "k2_offload"
_NUMBERS = {"parallel_tables": 1, "task_timeout_seconds": SHORTEST_TASK_SECONDS}
"""Settings that are whole numbers, and the least of each."""

_CHOICES = {"cold_reader": ("clickhouse", "worker"), "runner": tuple(RUNNERS), "log_format": FORMATS}
"""Settings that are one of some words; the first one is what goes without saying."""

_SECRETS = ("metrics_token",)
"""Settings that Airflow is to treat as its own secrets: it hides them, and takes them from a command or its secrets
backend, too."""

_OLDEST_AIRFLOW = (3, 3)


USUAL_SCHEDULE = "*/15 * * * *"
"""A cycle every quarter of an hour."""


@dataclass(frozen=True)
class Settings:
    """Section ``[k2_offload]`` of ``airflow.cfg`` (or ``AIRFLOW__K2_OFFLOAD__…``); see docs/configuration.md.

    The defaults suit a deployment with Airflow's usual folders.
    """

    tables_file: Path = TABLES_FILE
    ledger_conn_id: str = "k2_ledger"
    clickhouse_conn_id: str = "k2_clickhouse"
    catalog_conn_id: str = "k2_iceberg"
    spark_conn_id: str = "k2_spark"
    spark_binary: str = "spark-submit"
    spark_python: str = "python3"
    spark_jars: str = ""
    spark_class_archive: str = ""
    runner: str = "spark-submit"
    docker_conn_id: str = "k2_docker"
    docker_image: str = ""
    docker_jobs_folder: str = "/opt/k2/include/spark_jobs"
    docker_network: str = ""
    docker_mounts: str = ""
    docker_memory: str = ""
    docker_cpus: str = ""
    kubernetes_conn_id: str = "k2_kubernetes"
    kubernetes_namespace: str = "k2-offload"
    kubernetes_image: str = ""
    kubernetes_jobs_folder: str = "/opt/k2/include/spark_jobs"
    kubernetes_secret: str = "k2-offload-connections"  # noqa: S105 - its name
    kubernetes_service_account: str = ""
    kubernetes_memory: str = ""
    kubernetes_cpus: str = ""
    kubernetes_pod_template: str = ""
    lake_collection: str = "k2_lake"
    cold_reader: str = "clickhouse"
    parallel_tables: int = 4
    task_timeout_seconds: int = TASK_SECONDS
    schedule: str = USUAL_SCHEDULE
    report_folder: str = ""
    log_format: str = "text"
    notify_conn_id: str = ""
    metrics_token: str = field(default="", repr=False)


def load_settings() -> Settings:
    """Read the section; an empty value counts as none.

    :raises ConfigurationError: if one is not what it should be, or this Airflow is too old
    """
    check_airflow()
    from airflow.configuration import conf  # noqa: PLC0415 - the CLI answers --help without loading Airflow

    conf.sensitive_config_values.update((_SECTION, name) for name in _SECRETS)
    read = {each.name: conf.get(_SECTION, each.name, fallback="") for each in fields(Settings)}
    read |= {name: read[name].strip() for name in _SECRETS}  # a command ends its line
    given: dict[str, Any] = {key: text for key, text in read.items() if text}
    if "tables_file" in given:
        given["tables_file"] = Path(given["tables_file"])
    elif IN_WHEEL:  # an upgrade would replace what stands there
        raise ConfigurationError(
            f"[{_SECTION}] tables_file is not set, so there is nothing to move. Copy the example, {TABLES_FILE}, to a "
            f"place of your own, edit it, and name it in airflow.cfg or AIRFLOW__{_SECTION.upper()}__TABLES_FILE; "
            "then run `k2 validate`."
        )
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", given.get("lake_collection", Settings.lake_collection)):
        raise wrong_setting(
            "lake_collection", f"'{given['lake_collection']}', not a name of letters, digits and underscores"
        )
    for key, words in _CHOICES.items():
        if (word := given.get(key, words[0])) not in words:
            raise wrong_setting(key, f"'{word}', not one of: {', '.join(words)}")
    if "schedule" in given:
        given["schedule"] = _schedule(given["schedule"])
    for key, least in _NUMBERS.items():
        if key in given:
            given[key] = _number(key, given[key], least)
    return Settings(**given)


def check_airflow(version_of: Callable[[str], str] = importlib.metadata.version) -> None:
    """Refuse an Airflow that this package cannot work with.

    :param version_of: the version of an installed distribution; raises ``PackageNotFoundError``
    :raises ConfigurationError: if it is too old
    """
    try:
        version = version_of("apache-airflow-core")
    except importlib.metadata.PackageNotFoundError:  # before 3.0
        version = version_of("apache-airflow")
    if tuple(map(int, version.split(".")[:2])) < _OLDEST_AIRFLOW:
        oldest = ".".join(map(str, _OLDEST_AIRFLOW))
        raise ConfigurationError(
            f"K2 offload needs Airflow {oldest} or newer, and this is Airflow {version}. Nothing was moved. Upgrade "
            "Airflow, or install K2 offload beside a newer one."
        )


def _schedule(text: str) -> str:
    try:
        return read_schedule(text)
    except ValueError:
        raise wrong_setting("schedule", f"'{text}', not {FORMS}") from None


def _number(key: str, text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise wrong_setting(key, f"'{text}', not a whole number of at least {least}")
    return int(text)
