"""What the command refuses before it needs ClickHouse. Whatever reaches ClickHouse is tested on the stack."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from embedded.feed.cli import app

DATA = Path(__file__).parents[3] / "data"
RECORDING = DATA / "kraken_bcheur.csv"
REPLAY = ["replay", str(RECORDING), "--exchange", "kraken", "--symbol", "BCH/EUR"]
GENERATE = ["generate", "--rate", "10", "--for", "1"]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, but where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def refusal(result: Result) -> str:
    assert result.exit_code == 2
    assert result.stdout == ""
    return re.sub(r"[\s│╭╮╰╯─]+", " ", result.stderr)  # without line breaks and the frame around usage errors


def test_bad_rows_are_named_with_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    file.write_text("timestamp_s,price,quantity\n1672531436,90.54,1.1\n1672531436,ninety,1.1\n")
    said = refusal(run("replay", str(file), "--exchange", "kraken", "--symbol", "BCH/EUR", "--shift-to-now"))
    assert said.startswith(f"k2 feed: {file}: line 3: price 'ninety' is not a positive decimal number")
    assert said.endswith("Nothing was inserted. ")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "trades.csv.gz"
    file.write_bytes(b"\x1f\x8b\x08\xff")
    said = refusal(run("replay", str(file), "--exchange", "kraken", "--symbol", "BCH/EUR", "--shift-to-now"))
    assert f"{file}: not UTF-8 text" in said


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, closed_port: int) -> None:
    file = tmp_path / "trades.csv"
    file.write_bytes(b"\xef\xbb\xbf" + RECORDING.read_bytes())
    result = run(
        *("replay", str(file), "--exchange", "kraken", "--symbol", "BCH/EUR"), "--shift-to-now", f"--port={closed_port}"
    )
    assert result.exit_code == 1, "the file is fine, ClickHouse is not there"


def test_a_missing_file_is_refused() -> None:
    assert "does not exist" in refusal(run("replay", "nowhere.csv", "--exchange", "kraken", "--symbol", "BCH/EUR"))


def test_an_unknown_exchange_is_refused() -> None:
    said = refusal(run("replay", str(RECORDING), "--exchange", "bitstamp", "--symbol", "BCH/EUR"))
    assert "'bitstamp' is not one of 'binance', 'kraken'" in said


def test_old_trades_are_refused_with_the_ways_out() -> None:
    said = refusal(run(*REPLAY))
    assert "trades are as old as 2023-01-01T00:03:56.000000+00:00" in said
    assert "deletes on arrival what is older than 7 days" in said
    assert "--shift-to-now" in said
    assert "--allow-expired" in said
    assert said.endswith("Nothing was inserted. ")


def test_a_shift_too_far_into_the_past_is_refused() -> None:
    assert "older than 7 days" in refusal(run(*REPLAY, "--shift-to-now", "--ending-ago", str(6.5 * 86_400)))


def test_ending_ago_alone_is_refused() -> None:
    assert "only with --shift-to-now" in refusal(run(*REPLAY, "--ending-ago", "60"))


def test_generating_what_expires_on_arrival_is_refused() -> None:
    assert "Give a smaller --starting-ago" in refusal(run(*GENERATE, "--starting-ago", str(7 * 86_400)))


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--rate", "0", "greater than or equal to"),
        ("--rate", "-1", "greater than or equal to"),
        ("--rate", "1e300", "less than or equal to"),
        ("--rate", "nan", "less than or equal to"),
        ("--for", "-1", "greater than or equal to"),
        ("--for", "inf", "less than or equal to"),
        ("--for", "nan", "less than or equal to"),
        ("--starting-ago", "1e300", "less than or equal to"),
        ("--starting-ago", "nan", "less than or equal to"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(option: str, value: str, complaint: str) -> None:
    assert complaint in refusal(run("generate", "--rate", "10", option, value))


@pytest.mark.parametrize("command", [[*REPLAY, "--shift-to-now"], GENERATE])
def test_an_unreachable_clickhouse_is_one_clear_sentence(command: list[str], closed_port: int) -> None:
    result = run(*command, f"--port={closed_port}")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"k2 feed: ClickHouse at 127.0.0.1:{closed_port}, database k2 is not reachable")
    assert "Start it with `make up`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["replay", "generate"])
def test_help_has_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: k2 feed {command}" in result.stdout
