"""Results and method go to the right page, between the marks of their section."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.__main__ import SECTIONS
from bench.harness.report import DOCS, Bars, Figures, Section, write

PAGES = ("benchmarks.md", "benchmarks-method.md")
SECTION = Section(
    "small",
    "Small: two rows",
    (Bars("Small", {"export": 1.0}, "%.1f s"), Figures(("way", "seconds"), [("export", "1.00")])),
    "Once.",
)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    for page in PAGES:
        (tmp_path / page).write_text("before\n\n<!-- small -->\nold\n<!-- /small -->\n\nafter\n")
    return tmp_path


def test_results_and_method_replace_what_stood_between_the_marks(docs: Path) -> None:
    write(SECTION, "Measured today", docs)
    assert (docs / "benchmarks.md").read_text() == (
        "before\n\n<!-- small -->\n### Small: two rows\n\nMeasured today.\n\n![Small](benchmarks-small.svg)\n\n"
        "| way | seconds |\n| --- | ---: |\n| export | 1.00 |\n\n<!-- /small -->\n\nafter\n"
    )
    assert (docs / "benchmarks-method.md").read_text() == (
        "before\n\n<!-- small -->\n### Small: two rows\n\nOnce.\n\n<!-- /small -->\n\nafter\n"
    )
    assert (docs / "benchmarks-small.svg").exists()


def test_writing_twice_is_writing_once(docs: Path) -> None:
    write(SECTION, "Measured today", docs)
    once = {file.name: file.read_bytes() for file in docs.iterdir()}
    write(SECTION, "Measured today", docs)
    assert {file.name: file.read_bytes() for file in docs.iterdir()} == once


@pytest.mark.parametrize("page", PAGES)
def test_a_page_without_a_place_for_the_section_is_an_error(docs: Path, page: str) -> None:
    (docs / page).write_text("before\n\n<!-- small -->\n\nafter\n")
    with pytest.raises(RuntimeError, match=f"docs/{page} has no place for small"):
        write(SECTION, "Measured today", docs)


@pytest.mark.parametrize("page", PAGES)
def test_both_pages_have_a_place_for_every_section_in_one_order(page: str) -> None:
    text = (DOCS / page).read_text()
    places = {name: text.index(f"<!-- {name} -->") for name in SECTIONS}
    assert all(text.index(f"<!-- /{name} -->") > place for name, place in places.items())
    assert sorted(places, key=places.__getitem__) == list(SECTIONS)
