"""``python -m embedded.stack up|down|status|env``: see ``--help``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console

from embedded.stack.airflow_home import (
    UI_USER,
    connections_file,
    has_changed_connections,
    shell_environment,
    ui_url,
)
from embedded.stack.errors import StackError
from embedded.stack.lifecycle import ServiceStatus, down, status, up
from embedded.stack.report import progress, services_table
from embedded.stack.secrets import Secrets
from embedded.stack.settings import StackSettings

_EPILOG = """\
environment:
  K2_AIRFLOW_PORT, K2_POSTGRES_PORT, K2_CLICKHOUSE_NATIVE_PORT, K2_CLICKHOUSE_HTTP_PORT
  K2_CLICKHOUSE_VERSION (26.9 or 25.8), K2_STATE_DIR (default: .state)

exit code: 0 done (status: everything is up), 1 not done (status: something is not up), 130 interrupted
"""


def main() -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args()
    console = Console(stderr=arguments.json)
    try:
        settings = StackSettings.from_environment(os.environ)
        return int(arguments.command(settings, arguments, console))
    except StackError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except PermissionError as error:
        Console(stderr=True).print(
            f"{error.filename}: permission denied. This stack belongs to another user: run the command as that user, "
            "or choose another folder with K2_STATE_DIR. Nothing was done.",
            style="red",
        )
        return 1
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted; what had been started was stopped again.")
        return 130


def _up(settings: StackSettings, arguments: argparse.Namespace, console: Console) -> int:
    with progress(console) as listener:
        started = up(settings, airflow=arguments.airflow, listener=listener)
    statuses = status(settings, airflow=arguments.airflow)
    if has_changed_connections(settings):
        Console(stderr=True).print(
            f"{connections_file(settings)} was changed by hand, and is kept as it is: Airflow and `k2` use the servers "
            "that it names. To have it written anew, remove it and type: make up",
            soft_wrap=True,
            highlight=False,
        )
    if arguments.json:
        return _print_json(statuses)
    console.print(services_table(statuses))
    console.print()
    if not started:
        console.print("Everything was running already.")
    if arguments.airflow:
        password = Secrets.load_or_make(settings.state).airflow_password
        console.print(f"Airflow's UI   {ui_url(settings)}   user {UI_USER}   password {password}", highlight=False)
    console.print("Next           make demo · make k2 ARGS=status · make status · make down", highlight=False)
    return 0


def _down(settings: StackSettings, arguments: argparse.Namespace, console: Console) -> int:
    with progress(console) as listener:
        stopped = down(settings, listener=listener)
    if arguments.json:
        print(json.dumps({"stopped": stopped}))
    else:
        console.print(
            f"Stopped: {', '.join(stopped)}. Data stays in {settings.state}." if stopped else "Nothing was running."
        )
    return 0


def _status(settings: StackSettings, arguments: argparse.Namespace, console: Console) -> int:
    statuses = status(settings, airflow=arguments.airflow)
    if arguments.json:
        return _print_json(statuses)
    console.print(services_table(statuses))
    return _exit_code(statuses)


def _env(settings: StackSettings, _: argparse.Namespace, __: Console) -> int:
    if not (settings.airflow_home / "airflow.cfg").exists():
        raise StackError("There is no stack here yet. Type: make up")
    sys.stdout.write(shell_environment(settings))
    return 0


def _print_json(statuses: Iterable[ServiceStatus]) -> int:
    statuses = list(statuses)
    print(json.dumps([asdict(each) | {"log": str(each.log)} for each in statuses], indent=2))
    return _exit_code(statuses)


def _exit_code(statuses: Iterable[ServiceStatus]) -> int:
    return 0 if all(each.state == "up" for each in statuses) else 1


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the outcome as JSON")
    common.add_argument(
        "--airflow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with Airflow's processes, or Postgres and ClickHouse only",
    )
    parser = argparse.ArgumentParser(
        prog="python -m embedded.stack",
        description="The embedded stack: Postgres, ClickHouse and Airflow on this machine, without containers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, function, summary in (
        ("up", _up, "start what does not run yet and wait until it answers"),
        ("down", _down, "stop every process; data stays"),
        ("status", _status, "show what runs, where, and where its log is"),
        ("env", _env, 'print shell lines for this stack: eval "$(python -m embedded.stack env)"'),
    ):
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".", parents=[common])
        command.set_defaults(command=function)
    return parser


if __name__ == "__main__":
    sys.exit(main())
