"""docs/compatibility.md speaks of every version that is let in, of no other, and says of each what was tried."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

from embedded.install import machine
from embedded.install.layout import DEFAULT_CLICKHOUSE_VERSION, Layout
from embedded.install.steps import SetupError
from embedded.stack import StackSettings
from k2_offload.adapters import java
from tests.support.pages import DOCS, table_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/compatibility.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
SECTIONS = ["Python", "ClickHouse", "Java"]
RESULTS = {"✓", "✗", "in parts", "not tried"}
NOT_RESULTS = {"embedded as", "tried", "notes"}


def table(section: str) -> dict[str, dict[str, str]]:
    return table_of(PAGE, section)


def minors(oldest: tuple[int, int], newest: tuple[int, int]) -> list[str]:
    assert oldest[0] == newest[0] == 3
    return [f"3.{minor}" for minor in range(oldest[1], newest[1] + 1)]


def test_the_python_versions_are_those_that_set_up_takes() -> None:
    assert list(table("Python")) == minors(machine.OLDEST_PYTHON, machine.NEWEST_PYTHON)


def test_the_python_versions_are_those_that_the_project_requires() -> None:
    required = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["project"]["requires-python"])
    assert required
    assert list(table("Python")) == minors((3, int(required[1])), (3, int(required[2]) - 1))


def test_the_python_versions_are_those_that_make_looks_for() -> None:
    [named] = re.findall(r"^for python in (.*?); do", MAKEFILE, re.MULTILINE)
    assert re.findall(r"python(3\.\d+)", named) == list(table("Python"))[::-1], "the newest first"
    [(oldest, newest)] = re.findall(r"\(3, (\d+)\) <= sys\.version_info\[:2\] <= \(3, (\d+)\)", MAKEFILE)
    assert list(table("Python")) == minors((3, int(oldest)), (3, int(newest)))


def test_the_linters_know_the_oldest_python() -> None:
    oldest = next(iter(table("Python")))
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"


def test_the_clickhouse_versions_are_those_that_the_stack_knows() -> None:
    for version in table("ClickHouse"):
        StackSettings.from_environment({"K2_CLICKHOUSE_VERSION": version}).layout  # noqa: B018 - refuses what it does not know
    with pytest.raises(SetupError) as refusal:
        Layout.of(ROOT, "no such version")
    assert set(re.findall(r"\d+\.\d+", str(refusal.value))) == set(table("ClickHouse"))
    [default] = [version for version, row in table("ClickHouse").items() if row["notes"] == "the default"]
    assert default == DEFAULT_CLICKHOUSE_VERSION


def test_the_embedded_engines_are_the_pinned_ones() -> None:
    for version, row in table("ClickHouse").items():
        pins = dict(pin.split("==") for pin in PROJECT["dependency-groups"][f"clickhouse-{version}"] if "==" in pin)
        assert row["embedded as"] == f"chDB {pins['chdb']}"


def test_the_java_versions_are_those_that_spark_gets() -> None:
    assert list(table("Java")) == [str(version) for version in range(java.OLDEST_JAVA, java.NEWEST_JAVA + 1)]


def test_the_readers_are_shown_every_type_that_moves() -> None:
    mapped = " ".join(table_of((DOCS / "architecture.md").read_text(), "Type mapping"))
    types = set(re.findall(r"`(\w+)", mapped)) - {"binary", "Nullable"}
    assert {name for name in table("Readers") if "`" not in name} == types
    assert {result for row in table("Readers").values() for result in row.values()} <= {"✓", "✗"}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_row_says_what_was_tried_and_when(section: str) -> None:
    for version, row in table(section).items():
        results = {value for column, value in row.items() if column not in NOT_RESULTS}
        assert results, version
        assert results <= RESULTS, version
        if results == {"not tried"}:
            assert row["tried"] == "never", version
        else:
            assert date.fromisoformat(row["tried"]), version
