"""What can be known of the compose file without a container engine."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded.stack import Ports, StackSettings, airflow_home
from embedded.stack.secrets import Secrets
from k2_offload.core import connections
from k2_offload.core.connections import ConnectionFields

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
# What a health check may call: it is in the image because the service itself, or the image's own check, needs it.
TOOLS = {
    "postgres": {"pg_isready"},
    "redpandadata/redpanda": {"rpk"},
    "quay.io/minio/minio": {"mc"},
    "clickhouse/clickhouse-server": {"clickhouse-client"},
    "k2-offload-iceberg-rest": {"curl"},
    "k2-offload-airflow": {"python", "airflow"},
}


def load() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def services() -> dict[str, dict[str, Any]]:
    return load()["services"]


def one_shots() -> set[str]:
    """Services that others wait for to end."""
    waited = (service.get("depends_on", {}) for service in services().values())
    return {
        name
        for conditions in waited
        for name, condition in conditions.items()
        if condition == {"condition": "service_completed_successfully"}
    }


def texts(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif node is not None:
        yield str(node)


def interpolated(text: str, values: dict[str, str]) -> str:
    """As compose does it: the variable's value, else the default after ``:-``."""
    return VARIABLE.sub(lambda match: values.get(match[1]) or (match[3] if match[2] == "-" else ""), text)


@pytest.mark.parametrize("name", services())
def test_service_has_a_health_check_or_ends(name: str) -> None:
    service = services()[name]
    if name in one_shots():
        assert service.get("restart", "no") == "no"
        assert "ports" not in service
        return
    assert service["restart"] == "unless-stopped"
    check = service["healthcheck"]
    assert {"test", "interval", "timeout", "retries"} <= set(check)
    tool = check["test"][1].split()[0]
    assert tool in TOOLS[service["image"].rpartition(":")[0]]


@pytest.mark.parametrize("name", services())
def test_images_are_pinned_to_a_release(name: str) -> None:
    repository, _, tag = services()[name]["image"].rpartition(":")
    assert repository, "no tag"
    assert re.search(r"\d+[.-]\d+", tag), f"{tag} is a moving tag"


def test_base_images_are_pinned_to_a_release() -> None:
    stages: set[str] = set()
    bases = []
    for base, stage in re.findall(r"^FROM (\S+) AS (\S+)$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE):
        if base not in stages:
            bases.append(base)
        stages.add(stage)
    assert bases
    for base in bases:
        assert re.search(r":v?\d+\.\d+\.\d+", base), f"{base} is a moving tag"


def test_services_wait_only_for_services_that_can_satisfy_the_condition() -> None:
    for name, service in services().items():
        for other, condition in service.get("depends_on", {}).items():
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services()[other], f"{name} waits for {other}, which has no health check"
            else:
                assert condition["condition"] == "service_completed_successfully"


def test_ports_are_unique_and_on_the_loopback_address_only() -> None:
    published = [interpolated(port, {}) for service in services().values() for port in service.get("ports", [])]
    assert len(published) >= 8
    addresses, host_ports, _ = zip(*(port.split(":") for port in published), strict=True)
    assert set(addresses) == {"127.0.0.1"}
    assert len(set(host_ports)) == len(host_ports)
    assert "9000" not in host_ports


def test_nothing_gets_more_of_the_host_than_files_of_this_project() -> None:
    for name, service in services().items():
        assert not {"privileged", "network_mode", "pid", "devices", "cap_add"} & set(service), name
    assert not [text for text in texts(load()) if "docker.sock" in text]


def test_every_file_that_is_mounted_or_built_from_exists() -> None:
    volumes = set(load()["volumes"])
    used = set()
    for name, service in services().items():
        for mount in service.get("volumes", []):
            source, _, rest = mount.partition(":")
            if source.startswith("./"):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert rest.endswith(":ro"), f"{name}: {mount} could be changed from the container"
            else:
                used.add(source)
        if "build" in service:
            dockerfile = (ROOT / service["build"]["dockerfile"]).read_text()
            assert f" AS {service['build']['target']}\n" in dockerfile
    assert used == volumes


def test_every_file_the_image_copies_exists() -> None:
    copies = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copies for source in line.split()]
    assert "requirements.txt" in sources
    assert not [source for source in sources if not (ROOT / source).is_file()]


def test_no_password_stands_in_the_file() -> None:
    secret = re.compile(r"(?i)password|secret|fernet")
    found = 0
    for service in services().values():
        for key, value in service.get("environment", {}).items():
            if secret.search(key) and not key.endswith("FILE"):
                found += 1
                assert re.fullmatch(r"\$\{K2_\w+:\?[^}]+\}", value), f"{key} has a value of its own"
    assert found > 10
    for text in texts(load()):
        for password in re.findall(r'"(?:password|s3\.secret-access-key)": "([^"]*)"|://\w+:([^@/]+)@', text):
            assert re.fullmatch(r"\$\{K2_\w+_PASSWORD:\?[^}]+\}", "".join(password)), text


def test_example_of_env_names_every_variable_and_no_secret() -> None:
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    used = {(name, kind): default for text in texts(load()) for name, kind, default in VARIABLE.findall(text)}
    assert {name for name, _ in used} == set(example)
    for (name, kind), default in used.items():
        assert example[name] == (default if kind == "-" else "")


def test_env_is_written_once_with_secrets_of_its_own_for_the_owner_only(tmp_path: Path) -> None:
    (tmp_path / "docker").mkdir()
    shutil.copy(ROOT / "docker/write_env.py", tmp_path / "docker")
    shutil.copy(ROOT / ".env.example", tmp_path)
    command = [sys.executable, str(tmp_path / "docker/write_env.py")]
    assert subprocess.run(command, check=False).returncode == 0
    written = (tmp_path / ".env").read_text()
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    values = dict(re.findall(r"^(\w+)=(.*)$", written, re.MULTILINE))
    secrets = [value for name, value in values.items() if not name.endswith("_PORT")]
    assert len(set(secrets)) == len(secrets) == 7
    assert all(re.fullmatch(r"[\w=-]{44}", value) for value in secrets)
    assert subprocess.run(command, check=False).returncode == 1
    assert (tmp_path / ".env").read_text() == written


def test_connections_are_such_as_the_package_reads() -> None:
    environment = services()["airflow-scheduler"]["environment"]
    values = {"K2_POSTGRES_PASSWORD": "p=1", "K2_CLICKHOUSE_PASSWORD": "c=2", "K2_MINIO_PASSWORD": "m=3"}

    def fields(name: str) -> ConnectionFields:
        entry = json.loads(interpolated(environment[f"AIRFLOW_CONN_{name}"], values))
        return ConnectionFields(
            name, *(entry.get(key) for key in ("host", "port", "login", "password", "schema")), entry.get("extra", {})
        )

    clickhouse = connections.read_clickhouse(fields("K2_CLICKHOUSE"))
    assert (clickhouse.host, clickhouse.native_port, clickhouse.http_port) == ("clickhouse", 9000, 8123)
    assert (clickhouse.user, clickhouse.password, clickhouse.database) == ("k2", "c=2", "k2")
    catalog = connections.read_catalog(fields("K2_ICEBERG"))
    assert catalog.java["io-impl"].endswith("S3FileIO")
    assert catalog.pyiceberg["s3.secret-access-key"] == catalog.java["s3.secret-access-key"] == "m=3"
    assert fields("K2_LEDGER").password == "p=1"
    assert fields("K2_SPARK").host == "local[2]"


def test_what_was_killed_is_noticed_as_soon_as_on_the_embedded_stack(tmp_path: Path) -> None:
    settings = StackSettings(tmp_path, Ports(1, 2, 3, 4))
    embedded = configparser.ConfigParser()
    embedded.read_string(airflow_home.configuration_text(settings, Secrets.load_or_make(tmp_path)))
    environment = services()["airflow-scheduler"]["environment"]
    for name, value in embedded["scheduler"].items():
        assert environment[f"AIRFLOW__SCHEDULER__{name.upper()}"] == value
    assert len(embedded["scheduler"]) == 4


def test_exports_reach_the_bucket_that_the_catalog_names() -> None:
    everything = services()
    environment = everything["airflow-scheduler"]["environment"]
    bucket = re.search(r"s3://([^/]+)/", environment["AIRFLOW_CONN_K2_ICEBERG"])[1]
    assert everything["iceberg-rest"]["environment"]["CATALOG_WAREHOUSE"].startswith(f"s3://{bucket}/")
    assert everything["clickhouse"]["environment"]["K2_LAKE_URL"].endswith(f"/{bucket}/")
    assert everything["minio-bucket"]["entrypoint"][-1] == f"lake/{bucket}"
    user = everything["minio"]["environment"]["MINIO_ROOT_USER"]
    assert len(user) >= 3, "MinIO refuses to start"
    assert everything["clickhouse"]["environment"]["K2_LAKE_ACCESS_KEY_ID"] == user
    assert everything["iceberg-rest"]["environment"]["AWS_ACCESS_KEY_ID"] == user
    assert f'"s3.access-key-id": "{user}"' in environment["AIRFLOW_CONN_K2_ICEBERG"]
    assert f"//{user}:" in everything["minio-bucket"]["environment"]["MC_HOST_lake"]
    collection = (ROOT / "docker/clickhouse/k2_lake.xml").read_text()
    for variable in re.findall(r'from_env="(\w+)"', collection):
        assert variable in everything["clickhouse"]["environment"]


def test_jars_are_those_whose_checksums_are_pinned() -> None:
    pinned = {
        line.split()[1]
        for path in ("requirements/jars.sha256", "docker/lake_jars.sha256")
        for line in (ROOT / path).read_text().splitlines()
    }
    environment = services()["airflow-scheduler"]["environment"]
    used = {Path(jar).name for jar in environment["AIRFLOW__K2_OFFLOAD__SPARK_JARS"].split(",")}
    assert used == pinned
    copied = re.findall(r"/opt/jars/(\S+\.jar)", (ROOT / "docker/Dockerfile").read_text())
    assert set(copied) <= pinned


def test_message_queues_are_the_embedded_stacks_with_another_engine() -> None:
    def tables(path: str) -> list[tuple[str, str]]:
        return re.findall(r"CREATE TABLE IF NOT EXISTS (\w+) (\(.*?\))\s+ENGINE", (ROOT / path).read_text())

    name = "10_message_queues.sql"
    queues = tables(f"docker/clickhouse/{name}")
    assert len(queues) == 2
    assert queues == tables(f"include/sql/clickhouse/{name}")
    mounts = services()["clickhouse-schema"]["volumes"]
    assert f"./docker/clickhouse/{name}:/schema/{name}:ro" in mounts


def test_topics_that_clickhouse_reads_are_created() -> None:
    read = re.findall(r"kafka_topic_list = '(.*)'", (ROOT / "docker/clickhouse/10_message_queues.sql").read_text())
    created = re.search(r"for topic in (.*);", (ROOT / "docker/redpanda/create_topics.sh").read_text())
    assert created
    assert created[1].split() == read


@pytest.mark.parametrize("script", [*sorted((ROOT / "docker").rglob("*.sh")), ROOT / "docker/airflow/k2"], ids=str)
def test_shell_scripts_are_valid(script: Path) -> None:
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    assert script.suffix or os.access(script, os.X_OK)


def test_documented_ports_are_those_of_the_file() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    table = dict(re.findall(r"^\| [^|]+ \| `127\.0\.0\.1:(\d+)` \| `(\w+)`", page, re.MULTILINE))
    published = {
        match[3]: match[1]
        for service in services().values()
        for port in service.get("ports", [])
        for match in VARIABLE.finditer(port)
    }
    assert table == published


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    compose = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*compose, "version"], check=False, capture_output=True).returncode:
        pytest.skip("docker compose is not installed; the other tests read the file themselves")
    example = (ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(re.sub("=$", "=x", example, flags=re.MULTILINE))
    command = [*compose, "--env-file", tmp_path / ".env", "--file", COMPOSE, "config", "--quiet"]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
