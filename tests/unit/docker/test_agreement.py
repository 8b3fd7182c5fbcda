"""What one file of the production stack names is what the others have: addresses, logins, buckets, topics, settings."""

from __future__ import annotations

import configparser
import inspect
import json
import os
import re
import subprocess
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from typer.main import get_command

from embedded.feed.cli import app as feed
from embedded.stack import Ports, StackSettings, airflow_home
from embedded.stack.secrets import Secrets
from k2_offload.adapters.broker import BROKER_CONNECTION
from k2_offload.adapters.settings import Settings
from k2_offload.core import connections, view_queries
from k2_offload.core.connections import ConnectionFields
from k2_offload.core.lake import iceberg_table, parquet_file
from k2_offload.core.retention_queries import create_holding
from tests.unit.docker.compose import (
    ROOT,
    environment,
    interpolated,
    load,
    mounted_files,
    secret_names,
    services,
    texts,
)

DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SCHEDULER = environment("airflow-scheduler")
# Where each service answers, for the others.
LISTENING = {
    "postgres": {5432},
    "redpanda": {9092, 9644, 33145},
    "object-store": {7070},
    "clickhouse": {8123, 9000, 9363},
    "iceberg-rest": {8181},
    "catalog": {8181},
    "spark-master": {7077},
    "airflow-api-server": {8080},
    "prometheus": {9090},
    "alertmanager": {9093},
    "grafana": {3000},
}
# Variables that the images themselves read, by the start of their names.
OF_IMAGES = {
    "postgres": ("POSTGRES_PASSWORD",),
    "redpanda": ("RP_BOOTSTRAP_USER", "RPK_"),
    "redpanda-setup": ("RPK_",),
    "object-store": ("ROOT_",),
    "object-store-setup": (),
    "clickhouse": ("CLICKHOUSE_SKIP_USER_SETUP",),
    "clickhouse-schema": (),
    "iceberg-rest": ("CATALOG_", "AWS_", "JAVA_TOOL_OPTIONS"),
    "catalog": (),
    "grafana": ("GF_",),
    "feed": (),
    "spark-master": ("SPARK_", "PYSPARK_"),
    "spark-worker": ("SPARK_", "PYSPARK_"),
    **{f"airflow-{name}": ("AIRFLOW_",) for name in ("init", "api-server", "dag-processor", "triggerer")},
    "airflow-scheduler": ("AIRFLOW_", "SPARK_", "PYSPARK_"),
}
IN_THE_IMAGE = {DOCKER / "airflow" / name for name in ("k2", "with_spark_secret")}


def clickhouse_file(name: str) -> ET.Element:
    return ET.parse(DOCKER / "clickhouse" / name).getroot()  # noqa: S314 - of this project


def users() -> dict[str, list[str]]:
    """ClickHouse's users, with their grants."""
    found = clickhouse_file("k2_users.xml").find("users")
    assert found is not None
    return {
        user.tag: [query.text or "" for query in user.iter("query")] for user in found if user.get("remove") is None
    }


def roles() -> dict[str, str]:
    """Postgres's roles, with the variables that their passwords come from."""
    sql = (DOCKER / "postgres/roles.sql").read_text()
    variables = dict(re.findall(r"^\\getenv (\w+) (\w+)$", sql, re.MULTILINE))
    made = re.findall(r"^CREATE ROLE (\w+) LOGIN PASSWORD :'(\w+)';$", sql, re.MULTILINE)
    return {role: variables[password] for role, password in made}


def connection(name: str) -> ConnectionFields:
    entry = json.loads(SCHEDULER[f"AIRFLOW_CONN_{name}"])
    keys = ("host", "port", "login", "password", "schema")
    return ConnectionFields(name, *(entry.get(key) for key in keys), entry.get("extra", {}))


def files_read_in(service: str) -> set[Path]:
    """What of this project is run or read inside a service's containers, beside Python."""
    found = {file for file in mounted_files(service).values() if file.is_file()}
    return found | (IN_THE_IMAGE if services()[service]["image"].startswith("k2-offload-airflow") else set())


def test_every_address_is_that_of_a_service_that_listens_there() -> None:
    addresses = set()
    for name in services():
        words = [*environment(name).values(), *map(interpolated, texts(services()[name].get("command", [])))]
        words += [file.read_text() for file in files_read_in(name)]
        for host, port in re.findall(r"(?<![\w./-])([a-z][a-z-]+):(\d{2,5})\b", "\n".join(words).replace("//", " ")):
            if host not in {"localhost", "internal", "external"}:
                addresses.add((host, int(port)))
        for host, port in re.findall(r"@([a-z-]+):(\d+)/", "\n".join(words)):
            addresses.add((host, int(port)))
    assert len(addresses) >= 12
    for host, port in addresses:
        assert port in LISTENING[host], f"{host}:{port}"


def test_services_listen_where_the_others_look_for_them() -> None:
    commands = {name: " ".join(map(interpolated, texts(services()[name].get("command", [])))) for name in services()}
    assert "internal://0.0.0.0:9092" in commands["redpanda"]
    assert "internal://redpanda:9092" in commands["redpanda"]
    assert "--port :7070" in commands["object-store"]
    assert "--host spark-master --port 7077" in commands["spark-master"]
    assert "listen 8181;" in (DOCKER / "catalog/default.conf.template").read_text()
    server = clickhouse_file("k2_server.xml")
    assert server.findtext("prometheus/port") == "9363"


@pytest.mark.parametrize("service", OF_IMAGES)
def test_every_variable_is_read_and_what_is_read_is_set(service: str) -> None:
    given = set(environment(service))
    text = "\n".join(file.read_text() for file in files_read_in(service))
    named = {
        name for names in re.findall(r"\$\{?([A-Z]\w+)|from_env=\"(\w+)\"|\\getenv \w+ (\w+)", text) for name in names
    }
    named |= set(re.findall(r"environ\[\"(\w+)\"\]", text))
    named -= {"", *re.findall(r"export (\w+)=", text), *re.findall(r" (ADMIN_\w+)=", text)}
    checked = " ".join(services()[service].get("healthcheck", {}).get("test", []))
    by_code = {"K2_CLICKHOUSE_PASSWORD"} if service == "feed" else set()
    unread = {
        name for name in given - named - by_code if not name.startswith(OF_IMAGES[service]) and name not in checked
    }
    assert unread == set()
    of_spark = {"SPARK_CONF_DIR", "K2_SPARK_SECRET"} if "K2_SPARK_SECRET" not in given else set()
    of_init = {"K2_AIRFLOW_PASSWORD"} if service != "airflow-init" else set()
    assert named - given - of_spark - of_init == set()


def test_every_service_with_an_environment_is_looked_at() -> None:
    assert set(OF_IMAGES) == {name for name in services() if environment(name)}


def test_settings_of_airflow_are_settings_that_airflow_or_this_package_has() -> None:
    from airflow.configuration import conf  # noqa: PLC0415 - loads Airflow

    own = {f"AIRFLOW__K2_OFFLOAD__{field.name.upper()}" for field in fields(Settings)}
    in_image = set(re.findall(r"^ +(AIRFLOW__\w+)=", DOCKERFILE, re.MULTILINE))
    assert in_image <= own
    for name in SCHEDULER:
        if name.startswith("AIRFLOW__"):
            _, section, option = name.lower().split("__")
            assert option in conf.configuration_description[section]["options"], name


def test_the_scheduler_has_all_connections_others_those_that_they_ask_and_nobody_else_any() -> None:
    of_runners = {"docker_conn_id", "kubernetes_conn_id"}  # no container rules others
    names = {field.name for field in fields(Settings) if field.name.endswith("_conn_id")} - of_runners
    ids = {found for name in names if (found := getattr(Settings(), name))}
    given = {
        name: {variable: text for variable, text in environment(name).items() if variable.startswith("AIRFLOW_CONN_")}
        for name in services()
    }
    tasks, page, notices = (given.pop(f"airflow-{name}") for name in ("scheduler", "api-server", "dag-processor"))
    assert tasks.keys() == {f"AIRFLOW_CONN_{connection_id.upper()}" for connection_id in {*ids, BROKER_CONNECTION}}
    only_tasks = {"AIRFLOW_CONN_K2_SPARK", "AIRFLOW_CONN_K2_BROKER"}
    assert page == {variable: text for variable, text in tasks.items() if variable not in only_tasks}
    assert notices == {variable: tasks[variable] for variable in ("AIRFLOW_CONN_K2_LEDGER",)}
    assert not any(given.values()), given


@pytest.mark.parametrize("service", ["spark-master", "spark-worker"])
def test_the_script_that_a_cluster_is_started_with_finds_spark_beside_airflow(
    service: str, session_settings: StackSettings
) -> None:
    program, *_ = services()[service]["command"]
    of_image = {
        f"/opt/{name}-venv/": f"{getattr(session_settings.layout, name).path}/" for name in ("airflow", "spark")
    }

    def here(text: str) -> str:
        for there, path in of_image.items():
            text = text.replace(there, path)
        return text

    [path] = re.findall(r" PATH=(.*):\$PATH ", DOCKERFILE)
    given = {name: here(value) for name, value in environment(service).items()}
    looked = subprocess.run(
        ["/bin/bash", "-c", '. "$(dirname "$0")/find-spark-home"; echo "$SPARK_HOME"', here(program)],
        env={**given, "PATH": f"{here(path)}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert Path(looked.stdout.strip(), "bin", "spark-submit").is_file(), looked.stdout + looked.stderr


def test_connections_are_such_as_the_package_reads() -> None:
    clickhouse = connections.read_clickhouse(connection("K2_CLICKHOUSE"))
    assert (clickhouse.host, clickhouse.native_port, clickhouse.http_port) == ("clickhouse", 9000, 8123)
    assert (clickhouse.user, clickhouse.database) == ("k2_offload", "k2")
    catalog = connections.read_catalog(connection("K2_ICEBERG"))
    assert catalog.java["io-impl"].endswith("S3FileIO")
    for side in (catalog.pyiceberg, catalog.java):
        assert side["s3.secret-access-key"] == "<K2_S3_SECRET_ACCESS_KEY>"
        assert side["token"] == "<K2_CATALOG_TOKEN>"
    spark = connection("K2_SPARK")
    assert connections.is_cluster(connections.read_spark_master("k2_spark", "spark", spark.host, spark.port))


def test_the_broker_lets_who_verifies_read_what_clickhouse_reads_and_write_nothing() -> None:
    setup = (DOCKER / "redpanda/setup.sh").read_text()
    broker = connection(BROKER_CONNECTION.upper())
    assert broker.password == "<K2_BROKER_VERIFY_PASSWORD>"
    assert f'user {broker.login} "$K2_BROKER_VERIFY_PASSWORD"' in setup
    granted = re.findall(rf"User:{broker.login} (?:\\\n\s+)?(.*)", setup)
    assert granted == [
        "--operation read --operation describe --operation describe_configs "
        "--topic k2.trades. --resource-pattern-type prefixed",
        "--operation read --group k2_verify",
    ]
    assert broker.extra["sasl.mechanism"] == environment("redpanda")["RPK_SASL_MECHANISM"]
    assert "confluent-kafka==" in (ROOT / "requirements.txt").read_text()


def test_logins_of_postgres_are_roles_with_the_same_password_and_none_is_the_superuser() -> None:
    given = roles()
    assert given == {
        "airflow": "K2_AIRFLOW_DATABASE_PASSWORD",
        "k2_ledger": "K2_LEDGER_PASSWORD",
        "iceberg": "K2_CATALOG_DATABASE_PASSWORD",
    }
    ledger, catalog = connection("K2_LEDGER"), environment("iceberg-rest")
    logins = {
        (ledger.login, ledger.password, ledger.schema),
        (catalog["CATALOG_JDBC_USER"], catalog["CATALOG_JDBC_PASSWORD"], catalog["CATALOG_URI"].rpartition("/")[2]),
    }
    for variable in ("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC"):
        logins |= set(re.findall(r"//(\w+):(.*)@postgres:5432/(\w+)$", SCHEDULER[variable]))
    databases = set(re.findall(r"^CREATE DATABASE (\w+)", (DOCKER / "postgres/roles.sql").read_text(), re.MULTILINE))
    assert {(login, password) for login, password, _ in logins} == {(role, f"<{name}>") for role, name in given.items()}
    assert {database for *_, database in logins} == databases


def test_users_of_clickhouse_have_passwords_and_are_those_that_log_in() -> None:
    text = (DOCKER / "clickhouse/k2_users.xml").read_text()
    secrets = re.findall(r"<(k2_\w+)>\s*<password from_env=\"(\w+)\"/>", text)
    assert dict(secrets).keys() == users().keys()
    assert '<default remove="remove"/>' in text
    server = environment("clickhouse")
    for user, variable in secrets:
        assert server[variable] == f"<{variable}>", user
    assert connection("K2_CLICKHOUSE").login == "k2_offload"
    assert connection("K2_CLICKHOUSE").password == server["K2_CLICKHOUSE_OFFLOAD_PASSWORD"]
    assert environment("feed")["K2_CLICKHOUSE_PASSWORD"] == server["K2_CLICKHOUSE_FEED_PASSWORD"]
    assert "--user k2_feed" in " ".join(services()["feed"]["command"])
    assert "--user k2_admin" in (DOCKER / "clickhouse/apply_schema.sh").read_text()


def test_grants_are_the_documented_ones_and_for_tables_that_exist() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    documented = set(re.findall(r"^GRANT (.*) TO offload;$", page, re.MULTILINE))
    assert {grant.removeprefix("GRANT ") for grant in users()["k2_offload"]} == documented
    assert users()["k2_admin"] == []
    schema = "\n".join(file.read_text() for file in (ROOT / "include/sql/clickhouse").glob("*.sql"))
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", schema))
    for grant in users()["k2_feed"]:
        assert grant.endswith(" ON *.*") or grant.rpartition("k2.")[2] in tables, grant


def test_rights_of_views_are_the_documented_ones_and_cover_how_old_servers_replace_one() -> None:
    page, roles = ((ROOT / path).read_text() for path in ("docs/reading.md", "include/sql/grants/clickhouse.sql"))
    documented = re.findall(r"^GRANT (.*) TO offload;$", page, re.MULTILINE)
    assert re.findall(r"^-- GRANT (.* ON k2\..*) TO k2_offload;$", roles, re.MULTILINE) == documented
    given = {place: set(rights.split(", ")) for rights, _, place in (grant.partition(" ON ") for grant in documented)}
    assert given["k2.*"] == {"CREATE VIEW", "DROP VIEW"}
    # CREATE OR REPLACE renames, with a table's rights, and drops what stood there under the other name.
    assert given["k2._tmp_replace_*"] == {"SELECT", "DROP TABLE", "DROP VIEW"}
    assert given["k2.trades_all"] == {"CREATE TABLE", "INSERT"}
    assert "CREATE OR REPLACE" in inspect.getsource(view_queries)


def test_rights_of_retention_cover_how_old_servers_replace_a_holding_table() -> None:
    text = (ROOT / "docs/retention.md").read_text()
    grants = re.findall(r"^GRANT (.*) ON k2\.(\S+) TO offload;$", text, re.MULTILINE)
    given: dict[str, set[str]] = {}
    for rights, place in grants:
        given.setdefault(place, set()).update(rights.split(", "))
    assert create_holding("k2.silver_trades", "", replace=True).startswith("CREATE OR REPLACE TABLE")
    assert given["silver_trades_k2_holding"] >= {"CREATE TABLE", "DROP TABLE", "SELECT", "INSERT"}
    assert given["_tmp_replace_*"] == {"SELECT", "DROP TABLE"}


def test_the_feed_is_started_with_options_that_it_has() -> None:
    _, _, module, command, *arguments = services()["feed"]["command"]
    assert module == "embedded.feed"
    context = get_command(feed).commands[command].make_context(command, list(arguments))
    assert (context.params["host"], context.params["port"], context.params["user"]) == ("clickhouse", 9000, "k2_feed")


def test_everybody_means_the_same_object_store() -> None:
    setup, catalog, clickhouse = (
        environment("object-store-setup"),
        environment("iceberg-rest"),
        environment("clickhouse"),
    )
    lake = connections.read_catalog(connection("K2_ICEBERG")).pyiceberg
    endpoint, bucket, key, secret, region = (
        setup[f"K2_S3_{name}"] for name in ("ENDPOINT", "BUCKET", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "REGION")
    )
    assert clickhouse["K2_LAKE_URL"] == f"{endpoint}/{bucket}/"
    assert catalog["CATALOG_WAREHOUSE"] == lake["warehouse"] == f"s3://{bucket}/warehouse"
    assert catalog["CATALOG_S3_ENDPOINT"] == lake["s3.endpoint"] == endpoint
    assert catalog["AWS_REGION"] == lake["client.region"] == region
    assert {clickhouse["K2_LAKE_ACCESS_KEY_ID"], catalog["AWS_ACCESS_KEY_ID"], lake["s3.access-key-id"]} == {key}
    secrets = {clickhouse["K2_LAKE_SECRET_ACCESS_KEY"], catalog["AWS_SECRET_ACCESS_KEY"], lake["s3.secret-access-key"]}
    assert secrets == {secret}
    assert setup["ROOT_ACCESS_KEY_ID"] == environment("object-store")["ROOT_ACCESS_KEY_ID"] != key


def test_the_named_collections_are_those_that_are_used() -> None:
    root = clickhouse_file("k2_collections.xml").find("named_collections")
    assert root is not None
    for entry in root.iter():
        assert not (entry.text or "").strip(), f"{entry.tag} has a value of its own"
    queues = (DOCKER / "clickhouse/10_message_queues.sql").read_text()
    assert {entry.tag for entry in root} == {Settings().lake_collection, *re.findall(r"= Kafka\((\w+)\)", queues)}
    assert not re.search(r"kafka_(broker|sasl|security)|redpanda", queues)


def test_no_query_sends_the_lakes_keys_to_another_address() -> None:
    url = clickhouse_file("k2_collections.xml").find(f"named_collections/{Settings().lake_collection}/url")
    assert url is not None
    assert url.get("overridable") == "false"
    [statement] = re.findall(r"CREATE NAMED COLLECTION .*?;", (ROOT / "docs/configuration.md").read_text(), re.DOTALL)
    assert re.search(r"url = '[^']+' NOT OVERRIDABLE,", statement)
    assert "url" not in parquet_file("s3://lake/a.parquet", "k2_lake")
    assert "url" not in iceberg_table("s3://lake/a", "s3://lake/a/metadata/v1.metadata.json", "k2_lake")


def test_clickhouse_keeps_its_logs_of_itself_for_as_long_as_documented() -> None:
    logs = [section for section in clickhouse_file("k2_server.xml") if section.tag.endswith("_log")]
    kept = {log.tag: log for log in logs if not log.get("remove")}
    for name, log in kept.items():
        assert [entry.tag for entry in log] == ["ttl"], f"{name}: an engine of its own allows no TTL beside it"
    # All that the server's own configuration switches on and keeps for good, or for longer.
    assert set(kept) >= {
        *("query_log", "query_thread_log", "query_views_log", "query_metric_log", "trace_log", "text_log", "part_log"),
        *("metric_log", "asynchronous_metric_log", "latency_log", "error_log", "processors_profile_log"),
        "background_schedule_pool_log",
    }
    [ttl] = {log.findtext("ttl") or "" for log in kept.values()}
    days = re.fullmatch(r"event_date \+ INTERVAL (\d+) DAY DELETE", ttl)
    assert days
    assert f"`<ttl>{ttl}</ttl>`" in (ROOT / "docs/production.md").read_text()
    assert f"keeps {days[1]} days of them" in (ROOT / "docs/runbooks/maintenance.md").read_text()


def test_a_block_may_have_trades_of_any_number_of_days_as_documented_for_other_servers() -> None:
    setting = "max_partitions_per_insert_block"
    assert clickhouse_file("k2_users.xml").findtext(f"profiles/default/{setting}") == "0"
    assert f"`<{setting}>0</{setting}>` in the profile `default`" in (ROOT / "docs/production.md").read_text()


def test_message_queues_are_the_embedded_stacks_with_another_engine() -> None:
    def tables(path: str) -> list[tuple[str, str]]:
        return re.findall(r"CREATE TABLE IF NOT EXISTS (\w+) (\(.*?\))\s+ENGINE", (ROOT / path).read_text())

    name = "10_message_queues.sql"
    queues = tables(f"docker/clickhouse/{name}")
    assert len(queues) == 2
    assert queues == tables(f"include/sql/clickhouse/{name}")
    assert mounted_files("clickhouse-schema")[f"/schema/{name}"] == DOCKER / "clickhouse" / name


def test_the_broker_knows_whom_clickhouse_logs_in_as_and_lets_it_read_its_topics() -> None:
    queues = (DOCKER / "clickhouse/10_message_queues.sql").read_text()
    setup = (DOCKER / "redpanda/setup.sh").read_text()
    clickhouse, broker = environment("clickhouse"), environment("redpanda")
    topics = re.findall(r"kafka_topic_list = '(.*)'", queues)
    created = re.search(r"for topic in (.*);", setup)
    assert created
    assert created[1].split() == topics
    made = dict(re.findall(r'^user (\w+) "\$(\w+)"$', setup, re.MULTILINE))
    assert environment("redpanda-setup")[made[clickhouse["K2_BROKER_USER"]]] == clickhouse["K2_BROKER_PASSWORD"]
    grants = re.findall(r"User:(\w+) \\\n\s+(.*) --(topic|group) (\S+) --resource-pattern-type prefixed", setup)
    allowed = {(user, kind): prefix for user, operations, kind, prefix in grants if "read" in operations}
    assert all(topic.startswith(allowed[clickhouse["K2_BROKER_USER"], "topic"]) for topic in topics)
    groups = re.findall(r"kafka_group_name = '(.*)'", queues)
    assert len(groups) == 2
    assert all(group.startswith(allowed[clickhouse["K2_BROKER_USER"], "group"]) for group in groups)
    assert {user for user, *_ in grants} == set(made)
    bootstrap = yaml.safe_load((DOCKER / "redpanda/bootstrap.yaml").read_text())
    assert bootstrap["enable_sasl"] is bootstrap["admin_api_require_auth"] is True
    admin, _, mechanism = broker["RP_BOOTSTRAP_USER"].split(":")
    assert bootstrap["superusers"] == [admin]
    assert {admin} == {environment(name)["RPK_USER"] for name in ("redpanda", "redpanda-setup")}
    assert mechanism == broker["RPK_SASL_MECHANISM"] == clickhouse["K2_BROKER_SASL_MECHANISM"]
    assert mechanism in setup


def run_setup_of_the_broker(folder: Path, failures: int) -> tuple[int, list[str]]:
    """Run it with an ``rpk`` that fails so many times; returns the exit code, and how it was called."""
    calls, pauses = folder / "calls", folder / "pauses"
    for name, program in {
        "rpk": f'echo "$*" >> {calls}; [ "$(wc -l < {calls})" -gt {failures} ]',
        "sleep": f'echo "$1" >> {pauses}',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{program}\n")
        (folder / name).chmod(0o755)
    secrets = {name: "a-secret" for name in environment("redpanda-setup") if name.endswith("_PASSWORD")}
    environ = os.environ | secrets | {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", DOCKER / "redpanda/setup.sh"], env=environ, check=False, capture_output=True)
    return done.returncode, calls.read_text().splitlines()


def test_the_brokers_setup_outlives_a_broker_that_refuses_for_a_moment(tmp_path: Path) -> None:
    command = services()["redpanda"]["healthcheck"]["test"]
    assert command[-2:] == ["--watch", "--exit-when-healthy"]
    exit_code, calls = run_setup_of_the_broker(tmp_path, failures=5)
    assert exit_code == 0
    assert sum(call.startswith("security acl create") for call in calls[5:]) == 5


def test_the_brokers_setup_fails_when_the_broker_goes_on_to_refuse(tmp_path: Path) -> None:
    exit_code, calls = run_setup_of_the_broker(tmp_path, failures=1000)
    assert exit_code != 0
    assert len(calls) < 20


def test_the_catalogs_token_is_what_its_proxy_lets_through() -> None:
    template = (DOCKER / "catalog/default.conf.template").read_text()
    assert '"Bearer ${K2_CATALOG_TOKEN}" 1;' in template
    assert re.search(r"default 0;", template)
    assert environment("catalog")["K2_CATALOG_TOKEN"] == connection("K2_ICEBERG").extra["token"]
    assert re.findall(r"set (\S+) (\S+);", template) == [("$catalog", "http://iceberg-rest:8181")]
    assert re.search(r"^    resolver 127\.0\.0\.11 valid=\d+s", template, re.MULTILINE), "a dead address would be kept"
    health, all_else = re.findall(r"location (?:= )?/\w* \{(.*?)\n    \}", template, re.DOTALL)
    assert "proxy_pass $catalog;" in all_else
    assert "if ($known = 0) {" in all_else
    assert re.findall(r"(?:allow|deny|proxy_pass) [^;]+|return", health) == [
        "allow 127.0.0.1",
        "deny all",
        "proxy_pass $catalog/v1/config",
    ], "the health check reaches the catalog, and nobody else does without the token"
    assert services()["catalog"]["healthcheck"]["test"][-1] == "http://127.0.0.1:8181/health"
    assert "proxy_next_upstream off;" in template, "a commit must not be repeated"


def test_jars_are_those_whose_checksums_are_pinned() -> None:
    pinned = {
        line.split()[1]
        for path in ("requirements/jars.sha256", "docker/lake_jars.sha256")
        for line in (ROOT / path).read_text().splitlines()
    }
    [used] = re.findall(r"AIRFLOW__K2_OFFLOAD__SPARK_JARS=(\S+)", DOCKERFILE)
    assert {Path(jar).name for jar in used.split(",")} == pinned
    assert set(re.findall(r"COPY --from=jars /opt/jars/(\S+\.jar)", DOCKERFILE)) <= pinned


def test_who_installs_the_wheel_is_told_each_jar_and_where_its_checksum_is() -> None:
    page = (ROOT / "docs/install.md").read_text()
    rows = re.findall(r"^ *\| (`[^|]+\.jar`) \|.*\| `(\w+\.sha256)` \|$", page, re.MULTILINE)
    told = {sums: set(re.findall(r"`([^`]+)`", jars)) for jars, sums in rows}
    files = (ROOT / "requirements/jars.sha256", DOCKER / "lake_jars.sha256")
    assert told == {file.name: {line.split()[1] for line in file.read_text().splitlines()} for file in files}


def test_the_documented_way_to_what_was_tested_is_one_that_pip_goes() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs/install.md").read_text(), re.MULTILINE | re.DOTALL)
    commands = "".join(blocks).splitlines()
    assert " --hash=sha256:" in (ROOT / "requirements.txt").read_text()
    of_wheel = [line for line in commands if "pip install" in line and ".whl" in line]
    assert of_wheel
    assert not [line for line in of_wheel if "requirements.txt" in line], "pip wants a hash of the wheel then"
    assert "pip install --require-hashes --requirement requirements.txt" in commands
    assert "pip install --no-deps k2_offload-VERSION-py3-none-any.whl" in commands


def test_what_the_image_names_is_what_it_has() -> None:
    for variable, built in (("SPARK_BINARY", "/opt/spark-venv"), ("SPARK_PYTHON", "/opt/spark-venv")):
        [path] = re.findall(rf"AIRFLOW__K2_OFFLOAD__{variable}=(\S+)", DOCKERFILE)
        assert path.startswith(f"{built}/bin/")
    [archive] = re.findall(r"AIRFLOW__K2_OFFLOAD__SPARK_CLASS_ARCHIVE=(\S+)", DOCKERFILE)
    assert re.search(rf"install --directory --owner=airflow .*{Path(archive).parent}\b", DOCKERFILE)
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("k2 class-archive"), "the archive is made as who uses it"
    folders = {target for name in services() for target in mounted_files(name) if target.startswith("/opt/k2/")}
    assert {SCHEDULER["AIRFLOW__CORE__DAGS_FOLDER"], SCHEDULER["AIRFLOW__CORE__PLUGINS_FOLDER"]} <= folders
    assert services()["spark-master"]["entrypoint"] == services()["airflow-scheduler"]["entrypoint"]


def test_sparks_secret_is_written_for_its_owner_only(tmp_path: Path) -> None:
    environ = os.environ | {"SPARK_CONF_DIR": str(tmp_path / "conf"), "K2_SPARK_SECRET": "a-secret="}
    command = [str(DOCKER / "airflow/with_spark_secret"), "sh", "-c", 'echo "$K2_SPARK_SECRET."']
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    written = tmp_path / "conf/spark-defaults.conf"
    assert done.stdout == ".\n", "the command inherits the secret"
    assert written.stat().st_mode & 0o777 == 0o600
    settings = dict(line.split(" ", 1) for line in written.read_text().splitlines())
    assert settings["spark.authenticate"] == "true"
    assert settings["spark.authenticate.secret"] == "a-secret="
    worker = services()["spark-worker"]["command"]
    assert worker[worker.index("--memory") + 1] == settings["spark.executor.memory"], "no executor would fit"


def test_prometheus_asks_services_and_its_rules_need_nothing_else() -> None:
    prometheus = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    mounted = mounted_files("prometheus")
    assert set(prometheus["rule_files"]) <= set(mounted)
    for job in prometheus["scrape_configs"]:
        assert job["job_name"] in services()
        [[target]] = [config["targets"] for config in job["static_configs"]]
        assert target.split(":")[0] in {job["job_name"], "localhost"}
    rules = yaml.safe_load((DOCKER / "prometheus/rules.yml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    # tests/unit/test_monitoring.py looks at the other file.
    assert {re.match(r"\w+", expression)[0] for expression in expressions} == {
        "up",
        "ClickHouseAsyncMetrics_DiskAvailable_default",
    }
    for service, target in (("prometheus", "prometheus.yml"), ("alertmanager", "alertmanager.yml")):
        [path] = re.findall(r"--config\.file=(\S+)", " ".join(services()[service]["command"]))
        assert mounted_files(service)[path] == DOCKER / service / target
    receivers = yaml.safe_load((DOCKER / "alertmanager/alertmanager.yml").read_text())
    assert receivers["route"]["receiver"] in {receiver["name"] for receiver in receivers["receivers"]}


def test_prometheus_shows_the_token_that_lets_it_read_the_metrics() -> None:
    prometheus = yaml.safe_load((DOCKER / "prometheus/prometheus.yml").read_text())
    [job] = [job for job in prometheus["scrape_configs"] if job["job_name"] == "airflow-api-server"]
    folder, _, secret = job["authorization"]["credentials_file"].rpartition("/")
    assert folder == "/run/secrets"
    assert services()["prometheus"]["secrets"] == [secret]
    variable = load()["secrets"][secret]["environment"]
    assert environment("airflow-api-server")["AIRFLOW__K2_OFFLOAD__METRICS_TOKEN"] == f"<{variable}>"
    assert variable in secret_names()
    assert {name for name in services() if f"<{variable}>" in str(environment(name))} == {"airflow-api-server"}


@pytest.mark.parametrize("script", [*sorted(DOCKER.rglob("*.sh")), *sorted(IN_THE_IMAGE)], ids=lambda path: path.name)
def test_shell_scripts_are_valid(script: Path) -> None:
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0
    assert script.suffix or os.access(script, os.X_OK)


def test_what_was_killed_is_noticed_as_soon_as_on_the_embedded_stack(tmp_path: Path) -> None:
    settings = StackSettings(tmp_path, Ports(1, 2, 3, 4))
    embedded = configparser.ConfigParser()
    embedded.read_string(airflow_home.configuration_text(settings, Secrets.load_or_make(tmp_path)))
    assert len(embedded["scheduler"]) == 4
    for name, value in embedded["scheduler"].items():
        assert SCHEDULER[f"AIRFLOW__SCHEDULER__{name.upper()}"] == value
