"""Runbooks as tests read them: sections, their steps, the commands in each; and the page that says which have run."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.pages import DOCS

RUNBOOKS = DOCS / "runbooks"
RESULTS_VARIABLE = "K2_RUNBOOK_RESULTS"
"""Where `make runbooks` wants the page of results. With it, each ``k2 run`` of a runbook is a run of the real DAGs."""
DIVISOR = 300
"""By which the durations of the rules are divided, in scenarios: five minutes are a second."""

RAW_MESSAGE = ", raw_message String DEFAULT toString(sequence)"
"""The column that a table has besides, whose rows came as messages."""


@dataclass(frozen=True)
class Command:
    """What a runbook says to type.

    :param language: ``k2`` for a command line, else that of a block: ``sql``
    """

    language: str
    text: str


@dataclass(frozen=True)
class Section:
    """One scenario.

    :param name: the page and the anchor, as a link from the folder of the runbooks has them
    """

    name: str
    title: str
    text: str

    def step(self, name: str, row: str | None = None) -> str:
        """What is to be done in a step.

        :param row: of a table, only the row that begins with this; no row when left out
        """
        found = re.search(rf"^\*\*{name}\*\*(.*?)(?=^\*\*|\Z)", self.text, re.MULTILINE | re.DOTALL)
        assert found, f"{self.name} has no step {name}"
        rows = re.findall(r"^\|.*$", found[1], re.MULTILINE)
        if row is None:
            return re.sub(r"^\|.*\n?", "", found[1], flags=re.MULTILINE)
        [chosen] = [each for each in rows if each.strip("| ").startswith(row)]
        return chosen

    def commands(self, step: str, row: str | None = None) -> list[Command]:
        """The commands of a step, in their order."""
        found = re.finditer(r"^```(\w+)\n(.*?)^```|`(k2 [^`]*)`", self.step(step, row), re.MULTILINE | re.DOTALL)
        return [Command(*(("k2", each[3]) if each[3] else (each[1], each[2]))) for each in found]


def sections() -> dict[str, Section]:
    """All scenarios of all runbooks, by name."""
    return {section.name: section for page in sorted(RUNBOOKS.glob("*.md")) for section in _sections_of(page)}


def _sections_of(page: Path) -> Iterator[Section]:
    if page.stem in ("README", "results"):
        return
    _, *parts = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)
    for part in parts:
        title = part.partition("\n")[0]
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        yield Section(f"{page.name}#{anchor}", title, part)


_HEAD = """# Scenarios that have run

Written by `make runbooks` on {day}. Each scenario broke an embedded stack, waited until the alert fired in a real
Prometheus, ran the commands of its [runbook](README.md) as they stand there, waited until the alert was over, and
compared both tiers row by row. All durations of the rules were divided by {divisor}, and no threshold. Seconds are
those of the waiting, from the moment in which the stack was broken or mended.

**{passed} of {ran} scenarios passed; {alerts} of {all_alerts} alerts fired.**

| scenario | runbook | alert | fired after (s) | cleared after (s) | commands | result |
|---|---|---|---:|---:|---:|---|
"""


def results_page(day: str, ran: Sequence[tuple[str, str, Mapping[str, object]]], alerts: Sequence[str]) -> str:
    """The page of a run of all scenarios.

    :param ran: for each the test's name, how it ended, and what the scenario has noted
    :param alerts: the names of all that there are
    """
    known, lines, fired = sections(), [], set()
    for test, outcome, noted in sorted(ran, key=lambda each: (str(each[2]["section"]), each[0])):
        section = known[str(noted["section"])]
        what = test.rpartition("::test_")[2].replace("_", " ")
        for name, after, over in noted["alerts"] or [("", None, None)]:
            fired.add(name)
            lines.append(
                f"| {what} | [{section.title}]({section.name}) | {f'`{name}`' if name else 'none'} | {_seconds(after)} "
                f"| {_seconds(over)} | {noted['commands']} | {outcome} |"
            )
    page = _HEAD.format(
        day=day,
        divisor=DIVISOR,
        passed=sum(outcome == "passed" for _, outcome, _ in ran),
        ran=len(ran),
        alerts=len(fired & set(alerts)),
        all_alerts=len(alerts),
    )
    page += "\n".join(lines) + "\n"
    run = {noted["section"] for *_, noted in ran}
    left = [f"- [{each.title}]({each.name})" for each in known.values() if each.name not in run]
    page += (
        "\n## Not run\n\nSections that this run has not gone through, mostly as there is no test yet:\n\n"
        + "\n".join(left or ["- none"])
    )
    silent = [f"`{name}`" for name in alerts if name not in fired]
    page += (
        "\n\nAlerts that no scenario lets fire. `promtool` tests their rules on made-up series "
        "([`tests/data/alerts.yml`](../../tests/data/alerts.yml)): " + (", ".join(silent) or "none") + ".\n"
    )
    return page


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
