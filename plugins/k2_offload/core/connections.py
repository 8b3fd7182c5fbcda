"""What the connections mean to each side: ClickHouse's drivers, pyiceberg, and Iceberg's Java library.

Built from the fields of Airflow connections, so that one entry serves every component.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.limits import CATALOG_SECONDS, CONNECT_SECONDS, SILENCE_SECONDS, TASK_SECONDS
from k2_offload.core.text import without_secrets

_PYTHON_LIMITS = {"s3.connect-timeout": str(CONNECT_SECONDS), "s3.request-timeout": str(CATALOG_SECONDS)}
"""So that nobody waits for ever for a service that has vanished; a connection's extra may say otherwise."""

_JAVA_LIMITS = {
    "rest.client.connection-timeout-ms": str(CONNECT_SECONDS * 1000),
    "rest.client.socket-timeout-ms": str(CATALOG_SECONDS * 1000),
    "http-client.apache.connection-timeout-ms": str(CONNECT_SECONDS * 1000),
    "http-client.apache.socket-timeout-ms": str(CATALOG_SECONDS * 1000),
    "jdbc.loginTimeout": str(CONNECT_SECONDS),
    "jdbc.socketTimeout": str(SILENCE_SECONDS),
    "jdbc.tcpKeepAlive": "true",
}
"""The same for Iceberg's Java library; each catalog and storage reads its own."""

_DOCKER_FILES = ("ca_cert", "client_cert", "client_key")
_CLICKHOUSE_EXTRA = ("http_port", "secure", "ca_certs")
_PYTHON_ONLY = ("ssl", "auth")
_OWN_FILES = "k2_offload.adapters.store_files.TrustingFiles"
"""pyiceberg's access to files, for a store whose certificate is of an authority of the user's own."""

_RETRIES = "s3.retry-strategy-impl"
"""pyiceberg's property that those files lose."""

STORE_AUTHORITIES = "k2-offload.ca-certs"
"""The property of pyiceberg's that names their file to it."""

_POSTGRES_TLS = ("sslmode", "sslrootcert")
_CHECKED_MODES = ("verify-full", "verify-ca", "require")


@dataclass(frozen=True)
class ConnectionFields:
    """The fields of one Airflow connection."""

    connection_id: str
    host: str | None
    port: int | None
    login: str | None
    password: str | None
    schema: str | None
    extra: Mapping[str, object]


@dataclass(frozen=True)
class ClickHouseEndpoint:
    """Where ClickHouse listens; ``http_port`` serves Spark's JDBC reads only.

    :param alternatives: host and native port of the servers that are tried, in this order, when the first is away
    :param query_seconds: how long to wait for it between two packets of a query
    :param longest_query_seconds: after which it gives up a query itself, and says so; ``None`` for no limit of ours
    :param ca_certs: with ``secure``, the file of the authorities that its certificate is checked against; empty for
        those that each driver brings
    """

    connection_id: str
    host: str
    native_port: int
    http_port: int
    user: str
    password: str
    database: str
    secure: bool
    query_seconds: int = TASK_SECONDS
    ca_certs: str = ""
    longest_query_seconds: float | None = None
    alternatives: tuple[tuple[str, int], ...] = ()

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """Host and native port of all, in the order in which they are tried."""
        return ((self.host, self.native_port), *self.alternatives)


@dataclass(frozen=True)
class CatalogSettings:
    """An Iceberg catalog as pyiceberg and as Iceberg's Java library want it described.

    :param ca_certs: the file of the authorities that the certificates of a REST catalog and of an object store are
        checked against; empty for those that each library brings. ``pyiceberg`` has it as well; Java is told by the job
    """

    connection_id: str
    name: str
    pyiceberg: Mapping[str, Any]
    java: Mapping[str, str]
    ca_certs: str = ""


@dataclass(frozen=True)
class DockerEndpoint:
    """Where a Docker engine listens.

    :param tls: files (PEM) of the authorities, of the client's certificate and of its key; ``None`` without TLS
    """

    connection_id: str
    url: str
    tls: tuple[str, str, str] | None


def read_clickhouse(fields: ConnectionFields) -> ClickHouseEndpoint:
    """Read a ClickHouse connection: ``port`` is the native one, extra may hold ``http_port``, ``secure``, ``ca_certs``.

    The host may be several, with commas between, each with a native port of its own or without.

    :raises ConfigurationError: if the host is missing, a port is no number, or whether there is TLS is not certain
    """
    _refuse_others(fields, _CLICKHOUSE_EXTRA)
    secure = _flag(fields, "secure")
    authorities = fields.extra.get("ca_certs") or ""
    if authorities and not secure:
        raise ConfigurationError(
            f"connection '{fields.connection_id}': extra 'ca_certs' is for TLS, and 'secure' is not true there. "
            "Nothing was sent. Add '\"secure\": true', or take 'ca_certs' out."
        )
    try:
        http_port = int(str(fields.extra.get("http_port", 8443 if secure else 8123)))
    except ValueError:
        raise ConfigurationError(f"connection '{fields.connection_id}': extra 'http_port' must be a number") from None
    (host, port), *alternatives = _servers(fields, fields.port or (9440 if secure else 9000))
    return ClickHouseEndpoint(
        connection_id=fields.connection_id,
        host=host,
        native_port=port,
        http_port=http_port,
        user=fields.login or "default",
        password=fields.password or "",
        database=fields.schema or "default",
        secure=secure,
        ca_certs=str(authorities),
        alternatives=tuple(alternatives),
    )


def authority(host: str, port: int) -> str:
    """Host and port as an URL has them: an address of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _servers(fields: ConnectionFields, usual_port: int) -> list[tuple[str, int]]:
    hosts = _host(fields)
    if {"/", "@"} & set(hosts):  # not shown: who writes an address there has a password in it
        raise ConfigurationError(
            f"connection '{fields.connection_id}': host is an address; expected names of servers alone there. Nothing "
            "was sent. The user belongs into login, the password into password, a database into schema."
        )
    servers = []
    for text in map(str.strip, hosts.split(",")):
        host, colon, port = text.rpartition(":")
        if not colon or text.endswith("]") or (":" in host and not host.endswith("]")):  # an address of IPv6 has none
            host, port = text, str(usual_port)
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not host or {"[", "]"} & set(host) or not port.isdecimal():
            raise ConfigurationError(
                f"connection '{fields.connection_id}': host is '{hosts}'; expected one server there, or several with "
                "commas between: ch1.internal,ch2.internal:9440,[fd00::1]:9440"
            )
        servers.append((host, int(port)))
    if len(set(servers)) < len(servers):
        raise ConfigurationError(f"connection '{fields.connection_id}': host names a server twice: '{hosts}'")
    return servers


def read_catalog(fields: ConnectionFields) -> CatalogSettings:
    """Read an Iceberg catalog connection.

    Extra holds ``catalog_type`` (``rest``, or ``sql`` for a catalog in Postgres), ``catalog_name``, ``warehouse``,
    ``ca_certs`` for the certificates of a REST catalog and of an object store, for Postgres libpq's ``sslmode`` and
    ``sslrootcert``, for REST pyiceberg's own ``ssl`` and ``auth``; every other key (``s3.endpoint``,
    ``s3.access-key-id``, …) is passed on to both libraries as it is.

    :raises ConfigurationError: if something is missing, the type is unknown, or a library would not heed what is there
    """
    extra = dict(fields.extra)
    kind = str(extra.pop("catalog_type", "rest"))
    name = str(extra.pop("catalog_name", "demo"))
    if "." in name:
        raise ConfigurationError(
            f"connection '{fields.connection_id}': extra 'catalog_name' is '{name}', and Spark takes what follows a "
            "dot for something else. Nothing was sent. Choose a name without one."
        )
    authorities = str(extra.pop("ca_certs", None) or "")
    of_python = {key: extra.pop(key) for key in _PYTHON_ONLY if kind == "rest" and isinstance(extra.get(key), Mapping)}
    for key, value in extra.items():
        if not isinstance(value, str | int | float):
            raise ConfigurationError(
                f"connection '{fields.connection_id}': extra '{key}' is neither a text nor a number. Nothing was sent."
            )
    common: dict[str, Any] = {key: str(value) for key, value in extra.items()}
    host = _host(fields)
    if kind == "rest":
        if fields.port:
            raise ConfigurationError(
                f"connection '{fields.connection_id}' has a port; a REST catalog's belongs into its host: "
                f"{without_secrets(host)}:{fields.port}"
            )
        if bool(fields.login) != bool(fields.password):
            raise ConfigurationError(
                f"connection '{fields.connection_id}' has a {'login' if fields.login else 'password'} and no "
                f"{'password' if fields.login else 'login'}. Nothing was sent. Both are its credential; leave both out "
                "if the catalog has none."
            )
        python_side = _PYTHON_LIMITS | common | of_python | {"type": "rest", "uri": host}
        java_side = _JAVA_LIMITS | common | {"type": "rest", "uri": host}
        if fields.login:
            credential = {"credential": f"{fields.login}:{fields.password}"}
            python_side, java_side = python_side | credential, java_side | credential
    elif kind == "sql":
        login, password = fields.login or "", fields.password or ""
        address = f"{host}:{fields.port or 5432}/{fields.schema or ''}"
        tls, java_tls = _postgres_tls(fields.connection_id, common)
        query = f"?{urlencode(tls)}" if tls else ""
        userinfo = f"{quote(login, safe='')}:{quote(password, safe='')}"
        python_side = (
            _PYTHON_LIMITS | common | {"type": "sql", "uri": f"postgresql+psycopg://{userinfo}@{address}{query}"}
        )
        java_side = (
            _JAVA_LIMITS
            | common
            | {
                "catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog",
                "uri": f"jdbc:postgresql://{address}",
                "jdbc.user": login,
                "jdbc.password": password,
                "jdbc.schema-version": "V1",
            }
            | {f"jdbc.{key}": value for key, value in java_tls.items()}
        )
    else:
        raise ConfigurationError(
            f"connection '{fields.connection_id}': extra 'catalog_type' is '{kind}'; expected 'rest' or 'sql'"
        )
    if common.get("warehouse", "").startswith(("s3://", "s3a://", "s3n://")):  # a REST catalog's may be a name
        java_side.setdefault("io-impl", "org.apache.iceberg.aws.s3.S3FileIO")
    if authorities:
        _require_tls(fields.connection_id, kind, host, common)
        python_side |= _python_trust(fields.connection_id, kind, authorities, python_side)
    return CatalogSettings(fields.connection_id, name, python_side, java_side, authorities)


def read_docker(fields: ConnectionFields) -> DockerEndpoint:
    """Read a Docker connection: the host is the engine's URL; with TLS, extra has three files.

    :raises ConfigurationError: if the URL is none, only some of the files are there, or anything else is
    """
    url = _host(fields)
    if not url.startswith(("unix:///", "tcp://")):
        raise ConfigurationError(
            f"connection '{fields.connection_id}': host is '{without_secrets(url)}'; expected the Docker engine's "
            "address there: tcp://docker.internal:2376, or unix:///run/docker.sock"
        )
    _refuse_others(fields, _DOCKER_FILES)
    files = [str(fields.extra.get(key) or "") for key in _DOCKER_FILES]
    if any(files) and not all(files):
        raise ConfigurationError(
            f"connection '{fields.connection_id}': extra has only some of {', '.join(_DOCKER_FILES)}; TLS needs all of "
            "them, and without TLS there must be none"
        )
    authorities, certificate, key = files
    tls = (authorities, certificate, key) if all(files) else None
    return DockerEndpoint(fields.connection_id, f"{url}:{fields.port}" if fields.port else url, tls)


def read_spark_master(
    connection_id: str, kind: str, host: str | None, port: int | None, deploy_mode: str | None = None
) -> str:
    """The master that Airflow's Spark provider reads out of a connection.

    :param kind: the connection's type
    :param deploy_mode: its extra ``deploy-mode``
    :raises ConfigurationError: if it names none (the provider would make something up), or one that cannot be used
    """
    nothing_moved = "Nothing was moved and no row is lost."
    if not host:
        raise ConfigurationError(
            f"connection '{connection_id}' has no host; expected the Spark master there: local[2], spark://…, or yarn"
        )
    if deploy_mode not in (None, "", "client"):
        raise ConfigurationError(
            f"connection '{connection_id}' asks for deploy mode '{deploy_mode}'. The driver would run on another "
            f"machine, and passwords could reach it only through command lines that others can read. {nothing_moved} "
            "Take 'deploy-mode' out of its extra (large exports still run on the cluster), then run `k2 validate`."
        )
    master = host if kind == "spark" and ("://" in host or not port) else f"{kind}://{host}"
    if "k8s" in master:
        raise ConfigurationError(
            f"connection '{connection_id}': master {master} means Kubernetes to Airflow's Spark provider (as every "
            "address does that contains 'k8s'), which puts passwords on command lines there, and takes a driver "
            f"outside of a pod for failed. {nothing_moved} Put another master into its host (local[2], spark://…, "
            "yarn), or a name without 'k8s' for the same one; then run `k2 validate`."
        )
    return f"{master}:{port}" if port else master


def is_cluster(master: str) -> bool:
    """Whether a Spark master has executors in other processes than the driver."""
    return master.partition("[")[0] != "local"


def _host(fields: ConnectionFields) -> str:
    if not fields.host:
        raise ConfigurationError(f"connection '{fields.connection_id}' has no host")
    return fields.host


def _refuse_others(fields: ConnectionFields, known: Sequence[str]) -> None:
    for key in fields.extra:
        if key not in known:
            raise ConfigurationError(
                f"connection '{fields.connection_id}': extra '{key}' is not known, so it would have no effect. Nothing "
                f"was sent. There are {', '.join(known)}."
            )


def _flag(fields: ConnectionFields, key: str) -> bool:
    value = fields.extra.get(key, False)
    if value in (True, False):
        return bool(value)
    if str(value).lower() in ("true", "false"):
        return str(value).lower() == "true"
    raise ConfigurationError(
        f"connection '{fields.connection_id}': extra '{key}' is {value!r}; expected true or false. Nothing was sent."
    )


def _require_tls(connection_id: str, kind: str, host: str, common: Mapping[str, str]) -> None:
    """Refuse authorities for a catalog that has no TLS, and whose files are where there is none either."""
    if kind == "rest" and host.startswith("https:"):
        return
    if _is_folder(common) or common.get("s3.endpoint", "").startswith("http:"):
        store = "an object store whose 's3.endpoint' is https://…"
        raise ConfigurationError(
            f"connection '{connection_id}': extra 'ca_certs' is for TLS, and nobody speaks it there. Nothing was sent. "
            + (f"Use it with {store}" if kind == "sql" else f"Use it with a host that is https://…, or with {store}")
            + (", or take it out; for Postgres there is 'sslrootcert'." if kind == "sql" else ", or take it out.")
        )


def _python_trust(connection_id: str, kind: str, authorities: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """What makes pyiceberg check certificates of a REST catalog and of an object store against a file."""
    trust: dict[str, Any] = {}
    if kind == "rest":
        ssl = described.get("ssl") or {}
        if not isinstance(ssl, Mapping) or "cabundle" in ssl:
            raise ConfigurationError(
                f"connection '{connection_id}': extra has 'ca_certs', which Java heeds as well, and 'ssl' with "
                "authorities for pyiceberg alone. Nothing was sent. Take 'cabundle' out."
            )
        trust["ssl"] = {**ssl, "cabundle": authorities}
    if not _is_folder(described):
        files = described.get("py-io-impl", _OWN_FILES)
        if files not in (_OWN_FILES, "pyiceberg.io.pyarrow.PyArrowFileIO"):
            raise ConfigurationError(
                f"connection '{connection_id}': 'py-io-impl' is {files}, which would not heed extra 'ca_certs' for an "
                "object store. Nothing was sent. Take 'py-io-impl' out."
            )
        if _RETRIES in described:
            raise ConfigurationError(
                f"connection '{connection_id}': '{_RETRIES}' would have no effect beside extra 'ca_certs'. Nothing was "
                "sent. Take one of the two out."
            )
        trust |= {"py-io-impl": _OWN_FILES, STORE_AUTHORITIES: authorities}
    return trust


def _is_folder(described: Mapping[str, Any]) -> bool:
    return str(described.get("warehouse", "")).startswith(("file:", "/"))


def _postgres_tls(connection_id: str, common: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Take what concerns TLS out of a catalog's extra; the same for libpq and for Postgres' Java driver."""
    foreign = [key for key in common if key.startswith(("ssl", "gss", "channel_binding")) and key not in _POSTGRES_TLS]
    if foreign:
        raise ConfigurationError(
            f"connection '{connection_id}': extra '{foreign[0]}' would have no effect in Java. Nothing was sent. For a "
            f"catalog in Postgres there are {' and '.join(_POSTGRES_TLS)}."
        )
    tls = {key: common.pop(key) for key in _POSTGRES_TLS if key in common}
    mode = tls.get("sslmode")
    if "sslrootcert" in tls and mode not in _CHECKED_MODES:
        raise ConfigurationError(
            f"connection '{connection_id}': nobody would check a certificate against extra 'sslrootcert', as 'sslmode' "
            f"is {mode or 'not set'}. Nothing was sent. Set it to {' or '.join(_CHECKED_MODES[:2])}."
        )
    # With authorities, libpq checks the certificate in mode `require`, too; Java's driver does not.
    checked = {"sslmode": "verify-ca"} if mode == "require" and "sslrootcert" in tls else {}
    return tls, tls | checked
