"""``make demo``: trades flow into ClickHouse, two cycles of the real DAGs move them, and a late one is healed."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from embedded.k2 import app
from embedded.stack import StackError, StackSettings, airflow_home, airflow_services, up
from k2_offload.cli.console import number_table, screen, show_table
from k2_offload.core.text import show_number, show_seconds, show_time, show_window
from k2_offload.core.windows import parse_time

_DATA = Path(__file__).parents[1] / "tests" / "data"
_RECORDINGS = (
    ("binance_xrpeth_2019-10-11_2019-10-13.csv", "binance", "XRPETH"),
    ("kraken_bcheur.csv", "kraken", "BCH/EUR"),
)
_BUFFER_SECONDS = 330  # the offload's own five minutes, and a little
_FRESH_SECONDS = 600
_SHORTEST_SECONDS = 60
_LATE = timedelta(hours=2)
_OUT_OF_ORDER_SECONDS = 5  # the generator's trades come slightly out of order


class DemoFailedError(Exception):
    """A step cannot go on; the message says why."""


class Demo:
    """The steps, each a command that anyone can type; they run in this process, which loads Airflow once for all."""

    def say(self, text: str) -> None:
        """A heading for the next step."""
        screen.print(f"\n[bold]{text}[/bold]", soft_wrap=True)

    def k2(self, *arguments: str) -> None:
        """Run a command with its own screen.

        :raises DemoFailedError: if it does not exit with 0
        """
        screen.print(f"[dim]$ k2 {' '.join(arguments)}[/dim]", soft_wrap=True)
        if _exit_code(arguments) != 0:
            raise DemoFailedError(f"`k2 {arguments[0]}` failed; its own words stand above.")

    def k2_json(self, *arguments: str) -> list[dict[str, Any]]:
        """Run a command for its data.

        :raises DemoFailedError: if it does not exit with 0
        """
        with redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()) as said:
            code = _exit_code((*arguments, "--json"))
        if code != 0:
            raise DemoFailedError(f"`k2 {arguments[0]}` failed:\n{said.getvalue()}")
        document: list[dict[str, Any]] = json.loads(printed.getvalue())
        return document


def _exit_code(arguments: tuple[str, ...]) -> int:
    return app(arguments, prog_name="k2", standalone_mode=False) or 0


def main() -> int:
    """Run the demo; 1 if a step fails."""
    started = time.monotonic()
    settings = StackSettings.from_environment(os.environ)
    try:
        up(settings, airflow=False)
        if airflow_home.has_changed_connections(settings):
            raise StackError(
                f"{airflow_home.connections_file(settings)} was changed by hand, so that the demo would move rows of "
                "other servers. Nothing was moved. Put the file elsewhere, then type: make demo"
            )
        _enter(settings)
        show(Demo(), datetime.now(UTC))
    except (StackError, DemoFailedError) as error:
        screen.print(f"[red]✗[/red] {error}", soft_wrap=True)
        return 1
    screen.print(
        f"\nTook {time.monotonic() - started:.0f} s. [bold]make up[/bold] starts Airflow too: a cycle every 15 minutes "
        "and its UI. [bold]make down[/bold] stops everything; the data stays.",
        soft_wrap=True,
    )
    return 0


def _enter(settings: StackSettings) -> None:
    """Make this stack's Airflow the one of this process, before a command loads it."""
    variables = airflow_services.without_foreign_settings(os.environ) | airflow_services.own_variables(settings)
    os.environ.clear()
    os.environ.update(variables)


def show(demo: Demo, now: datetime) -> None:
    """The story: recorded trades, a first cycle, fresh trades, a second cycle, a late trade, both tiers compared.

    :param now: aware
    :raises DemoFailedError: if a step fails
    """
    before = demo.k2_json("status")
    if all(line["warm_rows"] == 0 for line in before):
        demo.say("1  Recorded trades of Binance and Kraken arrive in ClickHouse, as if they ended 25 minutes ago")
        for file, exchange, symbol in _RECORDINGS:
            options = ("--exchange", exchange, "--symbol", symbol, "--shift-to-now", "--ending-ago", "1500")
            demo.k2("feed", "replay", str(_DATA / file), *options)
    else:
        demo.say("1  There are trades in ClickHouse already, from an earlier demo or feed")
    demo.say("2  The first cycle: bronze, silver, then the six candle tables; a silent feed's last ten seconds wait")
    demo.k2("run")
    demo.say("3  Both exchanges trade on: fresh trades arrive")
    starting_ago, seconds = fresh_trades([_time(line["watermark"]) for line in demo.k2_json("status")], now)
    when = ("--starting-ago", str(starting_ago), "--for", str(seconds))
    demo.k2("feed", "generate", "--rate", "100", "--seed", "7", *when)
    demo.say("4  The second cycle moves only what is new")
    demo.k2("run")
    demo.say("5  A trade arrives two hours late; the DAG k2_reconcile heals what it changes")
    days = _send_late_trade(demo)
    screen.print(f"[dim]$ k2 heal --yes {' '.join(days)}[/dim]")
    healed = [line for line in demo.k2_json("heal", "--yes", *days) if line["found"] != "equal"]
    if not healed or any(line["result"] != "equal" for line in healed):
        raise DemoFailedError(f"The late trade was not healed: {healed}")
    screen.print(f"{healed[0]['day']} is healed in {len(healed)} tables: the trade is there, and all candles count it.")
    demo.say("6  Both tiers hold the same rows")
    demo.k2("verify")
    demo.say("7  The nine tables")
    _show_tables(demo.k2_json("status"))


def _send_late_trade(demo: Demo) -> list[str]:
    """Send one trade that is too late for its window.

    :returns: options that name its day; both, if midnight has passed meanwhile
    """
    before = datetime.now(UTC) - _LATE
    file, exchange, symbol = _RECORDINGS[-1]
    header, *_, last = (_DATA / file).read_text().splitlines()
    with tempfile.NamedTemporaryFile("w", prefix="late-trade-", suffix=".csv") as late:
        late.write(f"{header}\n{last}\n")
        late.flush()
        options = ("--exchange", exchange, "--symbol", symbol, "--shift-to-now")
        demo.k2("feed", "replay", late.name, *options, "--ending-ago", str(_LATE // timedelta(seconds=1)))
    days = dict.fromkeys(str(at.date()) for at in (before, datetime.now(UTC) - _LATE))
    return [option for day in days for option in ("--day", day)]


def fresh_trades(watermarks: list[datetime | None], now: datetime) -> tuple[int, int]:
    """When the fresh trades begin, in seconds before ``now``, and how many seconds of trading they are.

    They begin after every watermark, for they are no late rows, and end before the buffer behind ``now``.

    :raises DemoFailedError: if less than a minute lies between the two
    """
    newest = max((watermark for watermark in watermarks if watermark is not None), default=now - timedelta(hours=1))
    starting_ago = min(int((now - newest).total_seconds()) - _OUT_OF_ORDER_SECONDS, _FRESH_SECONDS + _BUFFER_SECONDS)
    seconds = starting_ago - _BUFFER_SECONDS
    if seconds < _SHORTEST_SECONDS:
        raise DemoFailedError(
            f"The newest trades are too fresh to add newer ones: try again in {_SHORTEST_SECONDS - seconds} s."
        )
    return starting_ago, seconds


def _time(text: object) -> datetime | None:
    return None if text is None else parse_time(str(text))


def _show_tables(lines: list[dict[str, Any]]) -> None:
    shown = number_table(["table"], ["warm rows", "cold rows", "watermark (UTC)", "last window (UTC)", "seconds"])
    for line in lines:
        shown.add_row(
            line["table"],
            show_number(line["warm_rows"]),
            show_number(line["cold_rows"]),
            show_time(_time(line["watermark"])),
            show_window(_time(line["window_low"]), _time(line["window_high"])),
            show_seconds(line["seconds"]),
        )
    show_table(shown)
    screen.print(
        "Candles stay in ClickHouse alone until their window has closed, and the newest trades for five minutes.",
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
