"""Tests use what the code offers, or tests/support: what it keeps to itself may change without them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
OWN = ("self", "cls")


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def reaches(source: str) -> Iterator[str]:
    """Where a module reaches for a name with an underscore that is not its own."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in OWN):
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            yield from (f"{node.lineno}: import {name}" for name in names if is_private(name))
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
            yield from (f"{node.lineno}: import {name}" for name in names if is_private(name))


@pytest.mark.parametrize("file", sorted(TESTS.rglob("*.py")), ids=lambda file: str(file.relative_to(TESTS)))
def test_no_reach_into_privates(file: Path) -> None:
    assert list(reaches(file.read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("cycle.catalog._catalog.load()", ["1: cycle.catalog._catalog"]),
        ("self.cold._table", ["1: self.cold._table"]),
        ("from k2_offload.adapters.ledger import Ledger, _queries", ["1: import _queries"]),
        ("from _pytest.reports import TestReport", ["1: import _pytest"]),
        ("import _thread", ["1: import _thread"]),
        ("self._own, cls._own, Fault.__init__, __file__", []),
    ],
)
def test_what_counts_as_a_reach(source: str, found: list[str]) -> None:
    assert list(reaches(source)) == found
