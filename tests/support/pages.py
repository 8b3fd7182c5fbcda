"""Sections and tables of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def section_of(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    [found] = [part for part in re.split(r"^#{2,} ", page, flags=re.MULTILINE) if part.startswith(f"{heading}\n")]
    return found


def table_of(page: str, heading: str) -> dict[str, dict[str, str]]:
    """The only table below a heading: the other columns of each row, by the first one.

    :param page: text of the page
    """
    found = section_of(page, heading)
    head, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in found.splitlines() if line[:1] == "|"
    )
    return {first: dict(zip(head[1:], rest, strict=True)) for first, *rest in rows}
