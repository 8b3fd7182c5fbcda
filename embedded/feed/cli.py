"""``k2 feed``: sends recorded or generated trades into ClickHouse as raw exchange messages."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from embedded.feed.market import INSTRUMENTS, LATEST_MICROS
from embedded.feed.market import generate as generate_messages
from embedded.feed.messages import Exchange, Message, Trade
from embedded.feed.pace import in_batches
from embedded.feed.progress import FeedProgress
from embedded.feed.recording import BadInput, build_messages, check_symbol, measure, read_trades, shift_to_end_at
from embedded.feed.sink import Sink, SinkFailed, Target

RETENTION_SECONDS = 7 * 86_400
"""How long the tables keep a trade: their TTL, as in ``include/sql/clickhouse``."""

_YEAR_SECONDS = 365 * 86_400

app = typer.Typer(
    help="Send trades into ClickHouse as raw exchange messages, recorded or generated.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
console = Console(stderr=True)

HostOption = Annotated[str, typer.Option("--host", help="ClickHouse's host.")]
PortOption = Annotated[int, typer.Option("--port", envvar="K2_CLICKHOUSE_NATIVE_PORT", help="Its native port.")]
UserOption = Annotated[str, typer.Option("--user", help="Whose password is in K2_CLICKHOUSE_PASSWORD.")]
DatabaseOption = Annotated[str, typer.Option("--database", help="Where the tables are.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


@dataclass(frozen=True)
class Summary:
    """What a feed did.

    :ivar trades: trades sent
    :ivar bronze_rows: rows that ClickHouse counts in bronze afterwards
    :ivar rejected_rows: messages, or trades in them, that ClickHouse rejected meanwhile
    :ivar first_timestamp: no trade is earlier
    :ivar last_timestamp: no trade is later
    """

    trades: int
    bronze_rows: int
    rejected_rows: int
    first_timestamp: str
    last_timestamp: str
    seconds: float
    trades_per_second: int


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="CSV file, see above.")],
    exchange: Annotated[Exchange, typer.Option(help="Whose messages to write.")],
    symbol: Annotated[str, typer.Option(help="As the exchange writes it: XRPETH, XBT/USD.")],
    shift_to_now: Annotated[
        bool, typer.Option("--shift-to-now", help="Move all times by the same amount so that the last trade is now.")
    ] = False,
    ending_ago: Annotated[
        float,
        typer.Option(
            min=0,
            max=RETENTION_SECONDS,
            metavar="SECONDS",
            help="With --shift-to-now: the last trade lies so far in the past.",
        ),
    ] = 0,
    allow_expired: Annotated[
        bool, typer.Option("--allow-expired", help="Send trades even if ClickHouse deletes them on arrival.")
    ] = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = 19000,
    user: UserOption = "default",
    database: DatabaseOption = "k2",
    as_json: JsonOption = False,
) -> None:
    """Replay recorded trades from a CSV file.

    Columns, named in the first line: timestamp_ms or timestamp_s, price, quantity, and if known trade_id and side (buy
    or sell). Without trade_id the trades are numbered; Kraken's messages have no place for it. Without side all are
    buys. The whole file is read before anything is inserted.

    Example: k2 feed replay tests/data/binance_xrpeth_2019-10-11_2019-10-13.csv --exchange binance --symbol XRPETH
    --shift-to-now
    """
    with _failures_reported(), _stopped_by_signals() as stop:
        check_symbol(exchange, symbol)
        if ending_ago and not shift_to_now:
            raise BadInput("--ending-ago has a meaning only with --shift-to-now")
        extent = measure(_trades_in(file, exchange))
        now_micros = _now_micros()
        shift_micros = shift_to_end_at(extent, now_micros - int(ending_ago * 1e6)) if shift_to_now else 0
        extent = extent.shifted(shift_micros)
        if not allow_expired:
            remedy = "--shift-to-now moves the last trade to now, --allow-expired sends such trades all the same"
            _refuse_expired(extent.first_micros, now_micros, remedy)
        messages = build_messages(_trades_in(file, exchange), exchange, symbol, shift_micros)
        with Sink(_target(host, port, user, database)) as sink:
            started = time.monotonic()
            with FeedProgress(console, f"replay {file.name}", total=extent.trade_count) as progress:
                # A recording is past, whatever times are in it: nothing to wait for.
                for batch in in_batches(messages, lambda: sys.maxsize, lambda _: not stop.is_set()):
                    sink.insert(batch)
                    progress.advance_to(sink.trade_count, sink.trade_count)
            summary = _summarize(sink, [exchange], [symbol], extent.first_micros, extent.last_micros, started)
    _report(summary, as_json)
    if summary.trades < extent.trade_count:
        _fail(f"Interrupted: {extent.trade_count - summary.trades:,} trades of {file} were not sent.")
    if not allow_expired:
        _check_arrivals(summary)


@app.command()
def generate(
    rate: Annotated[
        float,
        typer.Option(min=0.001, max=1e6, metavar="ROWS_PER_SECOND", help="Trades per second, on average."),
    ],
    seed: Annotated[int, typer.Option(help="The same seed and start give the same messages.")] = 0,
    for_seconds: Annotated[
        float | None,
        typer.Option(
            "--for",
            min=0,
            max=_YEAR_SECONDS,
            metavar="SECONDS",
            help="End after so much time in the market.",
        ),
    ] = None,
    starting_ago: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=RETENTION_SECONDS,
            metavar="SECONDS",
            help="Start in the past and catch up as fast as possible.",
        ),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 19000,
    user: UserOption = "default",
    database: DatabaseOption = "k2",
    as_json: JsonOption = False,
) -> None:
    """Generate a stream of trades on both exchanges, in real time.

    A dozen symbols, bursts, several trades at the same time, some up to two seconds late. Ends after --for, or now if
    only --starting-ago is given, or else with Ctrl-C.

    Example: k2 feed generate --rate 500 --seed 7 --starting-ago 3600
    """
    with _failures_reported(), _stopped_by_signals() as stop:
        now_micros = _now_micros()
        start_micros = now_micros - int((starting_ago or 0) * 1e6)
        first_micros = start_micros - LATEST_MICROS
        _refuse_expired(first_micros, now_micros, "Give a smaller --starting-ago")
        end_micros = None
        if for_seconds is not None:
            end_micros = start_micros + int(for_seconds * 1e6)
        elif starting_ago is not None:
            end_micros = now_micros
        messages = _until(generate_messages(seed, rate, start_micros), end_micros)
        exchanges = sorted({instrument.exchange for instrument in INSTRUMENTS})
        symbols = [instrument.symbol for instrument in INSTRUMENTS]
        last_micros = start_micros
        total_seconds = None if end_micros is None else (end_micros - start_micros) / 1e6
        with Sink(_target(host, port, user, database)) as sink:
            started = time.monotonic()
            with FeedProgress(console, "generate", total=total_seconds) as progress:
                for batch in in_batches(messages, _now_micros, lambda micros: _wait_until(micros, stop)):
                    sink.insert(batch)
                    last_micros = batch[-1].sent_micros
                    progress.advance_to((last_micros - start_micros) / 1e6, sink.trade_count)
            summary = _summarize(sink, exchanges, symbols, first_micros, last_micros, started)
    _report(summary, as_json)
    _check_arrivals(summary)


def _trades_in(file: Path, exchange: Exchange) -> Iterator[Trade]:
    """:raises BadInput: naming the file and the line"""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            yield from read_trades(lines, exchange)
    except BadInput as error:
        raise BadInput(f"{file}: {error}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file}: not UTF-8 text") from error


def _refuse_expired(first_micros: int, now_micros: int, remedy: str) -> None:
    """:raises BadInput: ClickHouse would delete trades as old as the first on arrival"""
    if first_micros <= now_micros - RETENTION_SECONDS * 1_000_000:
        raise BadInput(
            f"trades are as old as {_format(first_micros)}, and ClickHouse deletes on arrival what is older than "
            f"{RETENTION_SECONDS // 86_400} days. {remedy}"
        )


def _until(messages: Iterator[Message], end_micros: int | None) -> Iterator[Message]:
    """The messages sent before ``end_micros``."""
    if end_micros is None:
        return messages
    return takewhile(lambda message: message.sent_micros < end_micros, messages)


def _target(host: str, port: int, user: str, database: str) -> Target:
    return Target(host, port, user, database, os.environ.get("K2_CLICKHOUSE_PASSWORD", ""))


def _now_micros() -> int:
    return time.time_ns() // 1_000


def _wait_until(micros: int, stop: threading.Event) -> bool:
    return not stop.wait(max(0, micros - _now_micros()) / 1e6)


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets, so that the insert under way is finished.

    The second one acts as it would without this.
    """
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def request_stop(*_: object) -> None:
        stop.set()
        restore()

    for number in numbers:
        signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        restore()


@contextmanager
def _failures_reported() -> Iterator[None]:
    try:
        yield
    except BadInput as error:
        _fail(f"{error}. Nothing was inserted.", exit_code=2)
    except SinkFailed as error:
        _fail(str(error))


def _summarize(
    sink: Sink, exchanges: Sequence[str], symbols: Sequence[str], first_micros: int, last_micros: int, started: float
) -> Summary:
    seconds = time.monotonic() - started
    bronze_rows, rejected_rows = sink.count_arrivals(exchanges, symbols, first_micros, last_micros)
    return Summary(
        trades=sink.trade_count,
        bronze_rows=bronze_rows,
        rejected_rows=rejected_rows,
        first_timestamp=_format(first_micros),
        last_timestamp=_format(last_micros),
        seconds=round(seconds, 3),
        trades_per_second=round(sink.trade_count / seconds),
    )


def _report(summary: Summary, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(summary)))
        return
    typer.echo(
        f"{summary.trades:,} trades sent in {summary.seconds:.1f} s ({summary.trades_per_second:,} a second), "
        f"{summary.bronze_rows:,} rows arrived in bronze, {summary.rejected_rows:,} rejected; "
        f"times from {summary.first_timestamp} to {summary.last_timestamp}"
    )


def _check_arrivals(summary: Summary) -> None:
    if summary.bronze_rows < summary.trades:
        _fail(
            f"{summary.trades - summary.bronze_rows:,} trades did not arrive in bronze. Look at the reasons in "
            "rejected_messages, and whether the schema's views are all there."
        )


def _format(micros: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).isoformat(timespec="microseconds")


def _fail(message: str, exit_code: int = 1) -> None:
    typer.echo(f"k2 feed: {message}", err=True)
    raise typer.Exit(exit_code)
