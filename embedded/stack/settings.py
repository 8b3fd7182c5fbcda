"""Where the stack keeps things and which ports it uses; from ``K2_*`` variables, all of them optional."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedded.install.layout import DEFAULT_CLICKHOUSE_VERSION, ROOT, Layout
from embedded.install.steps import SetupError
from embedded.stack.errors import StackError

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """TCP ports on 127.0.0.1."""

    clickhouse_native: int = 19000
    clickhouse_http: int = 18123
    postgres: int = 15432
    airflow: int = 8080

    @staticmethod
    def variable(name: str) -> str:
        """The environment variable that changes a port: ``airflow`` → ``K2_AIRFLOW_PORT``."""
        return f"K2_{name.upper()}_PORT"


@dataclass(frozen=True)
class StackSettings:
    """One stack: two with different state folders and ports do not disturb each other.

    :param state: the folder for everything the stack writes
    :param root: the checkout whose DAGs, plugins and environments are used
    """

    state: Path
    ports: Ports = Ports()
    clickhouse_version: str = DEFAULT_CLICKHOUSE_VERSION
    root: Path = ROOT

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], root: Path = ROOT) -> StackSettings:
        """Read ``K2_STATE_DIR``, ``K2_CLICKHOUSE_VERSION`` and the ports.

        A port that is not given is the one of the stack already running in this state folder, else the default; so
        ``K2_AIRFLOW_PORT=8081 make up`` needs no repeating for ``make status``.

        :raises StackError: a port that is not a number from 1 to 65535, or two that are equal
        """
        state = Path(environment.get("K2_STATE_DIR") or root / ".state").resolve()
        running = read_running(state)
        ports = Ports(**{**asdict(Ports()), **running.get("ports", {}), **_given_ports(environment)})
        _require_distinct(ports)
        version = (
            environment.get("K2_CLICKHOUSE_VERSION") or running.get("clickhouse_version") or DEFAULT_CLICKHOUSE_VERSION
        )
        return cls(state=state, ports=ports, clickhouse_version=version, root=root)

    @property
    def layout(self) -> Layout:
        """The environments and jars that set-up made.

        :raises StackError: an unknown ClickHouse version
        """
        try:
            return Layout.of(self.root, self.clickhouse_version)
        except SetupError as error:
            raise StackError(str(error)) from None

    @property
    def run_folder(self) -> Path:
        """Process records and locks."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        """One log per service, and Airflow's task logs."""
        return self.state / "logs"

    @property
    def airflow_home(self) -> Path:
        """AIRFLOW_HOME."""
        return self.state / "airflow"

    @property
    def postgres_data(self) -> Path:
        """Postgres's data directory."""
        return self.state / "postgres"

    @property
    def clickhouse_data(self) -> Path:
        """The ClickHouse engine's data directory."""
        return self.state / "clickhouse"

    @property
    def clickhouse_config(self) -> Path:
        """The engine's configuration (XML), if somebody has put one there."""
        return self.state / "clickhouse.xml"

    @property
    def warehouse(self) -> Path:
        """Iceberg's tables."""
        return self.state / "warehouse"

    def log(self, name: str) -> Path:
        """The log file of a service or step."""
        return self.logs / f"{name}.log"

    def remember(self) -> None:
        """Keep the settings of the running stack, for :meth:`from_environment`."""
        _running_file(self.state).write_text(json.dumps(self.to_keep()))

    def to_keep(self) -> dict[str, Any]:
        """What cannot change while the stack runs."""
        return {"ports": asdict(self.ports), "clickhouse_version": self.clickhouse_version}

    def forget(self) -> None:
        """The stack is down: the next one may have other ports."""
        _running_file(self.state).unlink(missing_ok=True)


def read_running(state: Path) -> dict[str, Any]:
    """The settings a running stack was started with; empty when none runs."""
    try:
        kept = json.loads(_running_file(state).read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _running_file(state: Path) -> Path:
    return state / "run" / "settings.json"


def _given_ports(environment: Mapping[str, str]) -> dict[str, int]:
    given = {}
    for name in asdict(Ports()):
        text = environment.get(Ports.variable(name))
        if not text:
            continue
        if not text.isdecimal() or not 1 <= int(text) <= 65535:  # noqa: PLR2004 - the range of TCP ports
            raise StackError(f"{Ports.variable(name)}={text}: a port is a number from 1 to 65535.")
        given[name] = int(text)
    return given


def _require_distinct(ports: Ports) -> None:
    names_by_number: dict[int, str] = {}
    for name, number in asdict(ports).items():
        if number in names_by_number:
            raise StackError(
                f"{Ports.variable(names_by_number[number])} and {Ports.variable(name)} are both {number}; "
                "each service needs a port of its own."
            )
        names_by_number[number] = name
