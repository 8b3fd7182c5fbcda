"""Bringing the stack up and down, and saying how it is.

Order of starting: Postgres and ClickHouse beside each other, then what is made in them, then Airflow. Stopping runs the
other way, and ends with a search for anything that was left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedded.stack import airflow_home, airflow_services, clickhouse, postgres
from embedded.stack.errors import StackError
from embedded.stack.ports import require_free
from embedded.stack.processes import (
    SERVICE_VARIABLE,
    STACK_VARIABLE,
    ProcessRecord,
    end_all,
    find_in_folder,
    find_marked,
    read_record,
    start,
    stop,
    wait_until,
)
from embedded.stack.secrets import Secrets
from embedded.stack.service import Service
from embedded.stack.settings import StackSettings, read_running

# Called with the name of a service or step, and what it is doing.
Listener = Callable[[str, str], None]

_LOG_TAIL_LINES = 25


@dataclass(frozen=True)
class ServiceStatus:
    """How one service is.

    :param address: where people reach it; empty if nowhere
    :param pid: its process; None when it is down
    """

    name: str
    address: str
    pid: int | None
    state: Literal["up", "not answering", "down"]
    log: Path


def up(settings: StackSettings, *, airflow: bool = True, listener: Listener = lambda *_: None) -> list[str]:
    """Start what does not run yet and wait until everything answers. Repeating it is harmless.

    :param airflow: also start Airflow's processes; its database and AIRFLOW_HOME are made in any case
    :returns: the names of the services that this call started; none if all ran already
    :raises StackError: a port is busy, set-up is missing, or a service did not start. What this call started is stopped
        again; what ran before still runs.
    """
    _require_set_up(settings)
    _make_folders(settings)
    with _exclusive(settings):
        wanted = _servers(settings) + (airflow_services.services(settings) if airflow else ())
        _require_running_settings(settings)
        missing = [service for service in wanted if _running(settings, service) is None]
        require_free({name: number for service in missing for name, number in service.ports.items()})
        clickhouse.require_same_version(settings)
        settings.remember()
        try:
            _bring_up(settings, wanted, missing, listener)
        except BaseException:  # interrupted, too: nothing stays half-started
            _stop_services(settings, missing, listener)
            raise
        return [service.name for service in missing]


def down(settings: StackSettings, *, listener: Listener = lambda *_: None) -> list[str]:
    """Stop every process of this stack; data stays.

    :returns: what was stopped: names of services, and one entry for each process that had been left behind
    :raises StackError: another `up` or `down` of this stack is at work
    """
    if not settings.run_folder.exists():
        return []
    with _exclusive(settings):
        services = _all_services(settings)
        stopped = [service.name for service in services if _running(settings, service)]
        _stop_services(settings, services, listener)
        left_behind = end_all(lambda: find_marked({STACK_VARIABLE: str(settings.state)}))
        left_behind += end_all(lambda: find_in_folder(settings.postgres_data, program=postgres.PROGRAM))
        settings.forget()
        return stopped + [f"process {pid} (left behind)" for pid in left_behind]


def status(settings: StackSettings, *, airflow: bool = True) -> list[ServiceStatus]:
    """How every service is, asked now."""
    services = _all_services(settings) if airflow else _servers(settings)
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda service: _status_of(settings, service), services))


def log_tail(path: Path) -> str:
    """The end of a log, for an error message."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])
    except OSError:
        return "(no log)"


def _servers(settings: StackSettings) -> tuple[Service, ...]:
    return (postgres.service(settings), clickhouse.service(settings))


def _all_services(settings: StackSettings) -> tuple[Service, ...]:
    return _servers(settings) + airflow_services.services(settings)


def _bring_up(
    settings: StackSettings, wanted: Sequence[Service], missing: Sequence[Service], listener: Listener
) -> None:
    secrets = Secrets.load_or_make(settings.state)
    postgres_service, clickhouse_service, *airflow_daemons = wanted

    def launch(service: Service) -> None:
        if service in missing:
            listener(service.name, "starting")
            _start(settings, service)

    def wait(service: Service) -> None:
        _wait_until_answering(settings, service)
        listener(service.name, "up")

    launch(clickhouse_service)
    if postgres_service in missing:
        postgres.prepare(settings, secrets)
    launch(postgres_service)
    wait(postgres_service)
    postgres.create_databases(settings, secrets)
    airflow_home.write(settings, secrets)
    listener("airflow database", "checking, on first use making")
    airflow_services.migrate(settings, secrets)
    listener("airflow database", "up")
    for daemon in airflow_daemons:
        launch(daemon)
    wait(clickhouse_service)
    clickhouse.apply_schema(settings)
    for daemon in airflow_daemons:
        wait(daemon)


def _start(settings: StackSettings, service: Service) -> None:
    # A crash may have left the service's own children; they would compete with the new ones.
    end_all(lambda: _left_behind_by(settings, service))
    environment = {
        **airflow_services.without_foreign_settings(os.environ),
        **service.variables,
        STACK_VARIABLE: str(settings.state),
        SERVICE_VARIABLE: service.name,
    }
    start(
        service.command(),
        log=settings.log(service.name),
        record=_record_file(settings, service),
        environment=environment,
        folder=service.folder,
    )


def _wait_until_answering(settings: StackSettings, service: Service) -> None:
    record = read_record(_record_file(settings, service))
    timeout_seconds = service.start_timeout_seconds

    def settled() -> bool:
        return record is None or not record.is_alive or service.probe()

    in_time = wait_until(settled, timeout_seconds, poll_seconds=0.1)
    if in_time and record is not None and record.is_alive:
        return
    what = "ended" if in_time else f"did not answer within {timeout_seconds:.0f} s"
    log = settings.log(service.name)
    raise StackError(
        f"{service.name} {what}. The end of {log}:\n\n{log_tail(log)}\n\nWhat was started is stopped again."
    )


def _stop_services(settings: StackSettings, services: Sequence[Service], listener: Listener) -> None:
    """Stop those with the lowest order first; within one order all at once."""

    def stop_service(service: Service) -> None:
        record = _running(settings, service)
        if record is not None:
            listener(service.name, "stopping")
            stop(record, service.stop_signal, service.stop_timeout_seconds)
        end_all(lambda: _left_behind_by(settings, service))
        _record_file(settings, service).unlink(missing_ok=True)
        listener(service.name, "down")

    for order in sorted({service.stop_order for service in services}):
        with ThreadPoolExecutor() as pool:
            list(pool.map(stop_service, (service for service in services if service.stop_order == order)))


def _left_behind_by(settings: StackSettings, service: Service) -> list[int]:
    return find_marked({STACK_VARIABLE: str(settings.state), SERVICE_VARIABLE: service.name})


def _status_of(settings: StackSettings, service: Service) -> ServiceStatus:
    record = _running(settings, service)
    return ServiceStatus(
        name=service.name,
        address=service.address,
        pid=record.pid if record else None,
        state="down" if record is None else "up" if service.probe() else "not answering",
        log=settings.log(service.name),
    )


def _running(settings: StackSettings, service: Service) -> ProcessRecord | None:
    record = read_record(_record_file(settings, service))
    return record if record is not None and record.is_alive else None


def _record_file(settings: StackSettings, service: Service) -> Path:
    return settings.run_folder / f"{service.name}.json"


def _require_set_up(settings: StackSettings) -> None:
    layout = settings.layout
    missing = [path for path in (layout.clickhouse.python, layout.spark.python, layout.jars) if not path.exists()]
    if missing:
        raise StackError(
            f"Set-up is not complete: {missing[0]} is missing. Nothing was started.\n"
            f"Type: K2_CLICKHOUSE_VERSION={settings.clickhouse_version} make setup"
        )


def _make_folders(settings: StackSettings) -> None:
    try:
        for folder in (settings.run_folder, settings.logs, settings.warehouse, settings.airflow_home):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"{error.filename} cannot be made: {error.strerror}. Nothing was started.") from None
    if not os.access(settings.run_folder, os.W_OK):
        raise StackError(
            f"{settings.state} belongs to {settings.state.owner()}; run this as that user, or choose another folder "
            "with K2_STATE_DIR. Nothing was started."
        )


def _require_running_settings(settings: StackSettings) -> None:
    """One state folder, one stack: ports and version cannot change under a running service."""
    kept = read_running(settings.state)
    if kept and kept != settings.to_keep() and any(_running(settings, service) for service in _all_services(settings)):
        raise StackError(
            f"This stack is running with other settings: {kept}.\n"
            "Nothing was changed. Stop it first (`make down`), or leave the K2_* variables away."
        )


@contextlib.contextmanager
def _exclusive(settings: StackSettings) -> Iterator[None]:
    """One `up` or `down` at a time."""
    path = settings.run_folder / "lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StackError(
                f"Another `up` or `down` is at work on {settings.state} (process {file.read() or 'unknown'}). "
                "Nothing was done; try again when it has finished."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
