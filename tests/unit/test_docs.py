"""What the documentation names exists, and what exists for users is documented."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from embedded.stack.settings import Ports
from k2_offload.adapters.settings import Settings
from k2_offload.adapters.table_file import parse_tables
from k2_offload.cli.status import NAMES, NUMBERS
from k2_offload.core import connections
from k2_offload.core.connections import ConnectionFields
from k2_offload.core.plan import Plan
from k2_offload.core.tables import TableOptions, TableSpec
from k2_offload.work.notes import describe_late

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "docs/configuration.md"
README = ROOT / "README.md"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NOT_MEASURED = "\N{EN DASH}"
PUBLISHED = "as published"
ROWS = r"[\d,]+ rows(?: and [\d,]+ rows)?"
CHANGES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
# What is said to operators while it runs names commands too.
MESSAGES = [
    *sorted((ROOT / "plugins").rglob("*.py")),
    *sorted((ROOT / "plugins").rglob("*.md")),
    *sorted((ROOT / "include").rglob("*.py")),
]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def snippets(text: str) -> Iterator[str]:
    """Lines of fenced blocks, and code between backticks; pictures are prose."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language != "mermaid":
            yield from block.splitlines()
    yield from re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def documented_defaults(page: Path) -> dict[str, str]:
    """First and second column of every table, where the first is names in backquotes."""
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]*?) \|", page.read_text(), re.MULTILINE)
    return {name: default for names, default in rows for name in re.findall(r"`(\w+)`", names)}


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@cache
def command_line() -> Any:
    from embedded.k2 import app  # noqa: PLC0415 - the other tests need no command line

    return get_command(app)


def k2_commands(text: str) -> Iterator[str]:
    """Everything after ``k2`` in the text's commands."""
    for snippet in snippets(text):
        code = snippet.partition(" #")[0].partition(" | ")[0]  # what comes behind a pipe is another program's
        if through_make := re.search(r'make k2 ARGS="?([a-z][^"]*)', code):
            yield through_make[1]
        elif direct := re.search(r"(?:^|[ /])k2 ([a-z-].*)", code):
            yield direct[1]


def told_bare(text: str) -> list[str]:
    """Commands that are a string of their own, and the examples of --help."""
    found = re.findall(r'"k2 ([a-z][^"]*)"', text) + re.findall(r"\[bold\]k2 ([^\[]*)\[/bold\]", text)
    return [each.partition(" | ")[0] for each in found]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def links(page: Path) -> set[Path]:
    """Files of the project that a page leads to."""
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text())
    return {(page.parent / target).resolve() for target in targets if not re.match(r"https?://", target)}


def test_every_page_and_picture_is_reached_from_the_readme() -> None:
    reached, ahead = {README}, [README]
    while ahead:
        for target in links(ahead.pop()) - reached:
            reached.add(target)
            if target.suffix == ".md" and target.exists():
                ahead.append(target)
    pictures = [file for file in (ROOT / "docs").rglob("*") if file.suffix in {".svg", ".png"}]
    assert len(pictures) > 5
    assert {name_of(file) for file in {*PAGES, *pictures} - reached} == set()


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 160
    [excerpt] = blocks(README, "text")  # tests/stack/embedded/test_demo.py compares it with what the demo prints
    assert len(excerpt.splitlines()) <= 16


def tables(page: Path) -> Iterator[list[list[str]]]:
    """Cells of every table, its header first."""
    for lines in re.findall(r"(?:^\|.*\n)+", page.read_text(), re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()]
        yield [rows[0], *rows[2:]]


def test_every_test_that_a_promise_names_is_there() -> None:
    [promises] = [rows for header, *rows in tables(ROOT / "docs/reliability.md") if header == ["promise", "test"]]
    for promise, named in promises:
        tests = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", named)
        assert tests, promise
        for file, test in tests:
            assert not test or f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"
            assert (ROOT / "tests" / file).exists()
    assert len(promises) > 40


def measured_seconds() -> dict[tuple[str, str], str]:
    """What docs/benchmarks.md prints, by what is moved and by way."""
    page = ROOT / "docs/benchmarks.md"
    found: dict[tuple[str, str], str] = {}
    for title, body in re.findall(rf"^### \w+: ({ROWS})$(.*?)^<!-- /", page.read_text(), re.MULTILINE | re.DOTALL):
        for way, seconds in re.findall(r"^\| ([^|]+) \| [\d.]+ \| ([\d.]+) \|", body, re.MULTILINE):
            found[title, re.split(r"[:,]", way)[0]] = seconds
    for header, *rows in tables(page):
        if header[:4] == ["tables", "way", "time of this project", "seconds"]:
            found |= {(f"{row[0]} tables", row[1].partition(":")[0]): row[3] for row in rows}
    return found


@pytest.mark.parametrize("page", [README, ROOT / "docs/alternatives.md", ROOT / "docs/coming-from.md"], ids=name_of)
def test_quoted_figures_are_the_ones_that_were_measured(page: Path) -> None:
    measured = measured_seconds()
    [(header, *rows)] = [table for table in tables(page) if table[0][0] == "seconds"]
    quoted = 0
    for what, *figures in rows:
        rows_of = re.match(ROWS, what)
        moved = rows_of[0] if rows_of else "9 tables"
        for name, figure in zip(header[1:], figures, strict=True):
            way = re.split(r"[:,(]", name)[0].strip()
            if way == PUBLISHED:
                continue
            if way == "this project" and moved != "9 tables":
                way = "export"
            assert measured.get((moved, way), NOT_MEASURED) == figure, (what, name)
            quoted += figure != NOT_MEASURED
    assert quoted >= 8


def test_the_readme_says_when_its_figures_were_measured() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text()
    for title in ("Bulk", "Small", "Whole cycles"):
        [day] = re.findall(rf"^### {title}.*\n\nMeasured on ([\d-]+):", text, re.MULTILINE)
        assert f"`make bench` on {date.fromisoformat(day):%-d %B %Y}" in README.read_text()


def test_the_sample_of_status_is_what_the_command_shows() -> None:
    [sample] = [block for block in blocks(ROOT / "docs/operations.md", "text") if block.startswith("table  ")]
    first, *_, last = sample.splitlines()
    assert re.split(r" {2,}", first) == [*NAMES, *NUMBERS]
    assert last == f"late: {describe_late([date(2026, 11, 21)])}"


def test_the_changelog_has_the_form_that_it_names() -> None:
    """Keep a Changelog 1.1.0: Unreleased first, dated releases after it, and in each known kinds of changes."""
    text = (ROOT / "CHANGELOG.md").read_text()
    assert text.startswith("# Changelog\n")
    assert "https://keepachangelog.com/en/1.1.0/" in text
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert titles[0] == "[Unreleased]"
    assert [title for title in titles[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", title)] == []
    for release in re.split(r"^## .+\n", text, flags=re.MULTILINE)[1:]:
        before, *kinds = re.split(r"^### ", release, flags=re.MULTILINE)
        assert not before.strip(), "every entry stands below a kind of change"
        names = [kind.partition("\n")[0] for kind in kinds]
        assert names == [name for name in CHANGES if name in names], "known kinds, in this order, each once"
        for kind in kinds:
            entries = kind.partition("\n")[2].strip()
            assert re.fullmatch(r"(?:- .+\n(?:  .+\n)*)+", entries + "\n"), "only entries below a kind of change"


@pytest.mark.parametrize("page", [*PAGES, *MESSAGES], ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    named = {target for code in snippets(page.read_text()) for target in re.findall(r"\bmake ([a-z][a-z0-9-]*)", code)}
    assert named <= make_targets()


def test_k2_commands_are_found_at_all() -> None:
    assert list(k2_commands('see `k2 status` and\n```sh\nmake k2 ARGS="run --json"  # now\n```\n')) == [
        "run --json",
        "status",
    ]
    assert told_bare('then: str = "k2 status"\nExample: [bold]k2 kubernetes-secret | kubectl apply[/bold]') == [
        "status",
        "kubernetes-secret",
    ]
    assert sum(len(told_bare(file.read_text())) for file in MESSAGES) > 50
    assert sum(1 for page in PAGES for _ in k2_commands(page.read_text())) > 10


@pytest.mark.parametrize("page", [*PAGES, *MESSAGES], ids=name_of)
def test_k2_commands_exist(page: Path) -> None:
    text = page.read_text()
    for line in [*k2_commands(text), *told_bare(text)]:
        command = command_line()
        words = line.split()
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            word = words.pop(0)
            assert word in command.commands, f"k2 {line}"
            command = command.commands[word]
        known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        used = {word for word in words if word.startswith("--")}
        assert used <= known | {"--help"}, f"k2 {line}"


@cache
def airflow_commands() -> Any:
    from airflow.cli.cli_parser import ALL_COMMANDS_DICT  # noqa: PLC0415 - loads Airflow

    return ALL_COMMANDS_DICT


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_airflow_commands_exist(page: Path) -> None:
    for line in snippets(page.read_text()):
        for named in re.findall(r"(?:^|[ /])airflow ((?:db|dags|connections|tasks|jobs) .*)", line.partition(" #")[0]):
            group, name, *words = re.sub(r"'[^']*'?", "", named).split()
            commands = {command.name: command for command in airflow_commands()[group].subcommands}
            assert name in commands, f"airflow {named}"
            known = {flag for argument in commands[name].args for flag in argument.flags}
            assert {word for word in words if word.startswith("-")} <= known, f"airflow {named}"


def test_going_back_takes_airflows_database_back_before_the_older_airflow_comes() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    section = page.partition("### If Airflow itself is older\n")[2].partition("\n## ")[0]
    order = ("pg_dumpall", "docker compose stop", "airflow db downgrade --to-version", "git reset --keep", "up --build")
    places = [section.index(command) for command in order]
    assert places == sorted(places)
    assert "(operations.md#if-airflow-itself-is-older)" in (ROOT / "docs/production.md").read_text()
    assert "(#if-airflow-itself-is-older)" in page


def test_every_advice_to_clean_airflows_tables_leaves_no_copies_there() -> None:
    advices = [line for page in PAGES for line in snippets(page.read_text()) if re.search(r"airflow db clean -", line)]
    assert len(advices) >= 3
    for advice in advices:
        assert "--skip-archive" in advice, advice
    section = (ROOT / "docs/runbooks/maintenance.md").read_text().partition("## Postgres is full\n")[2]
    order = ("airflow db drop-archived", "airflow db clean --skip-archive --batch-size", "VACUUM (FULL")
    places = [section.index(command) for command in order]
    assert places == sorted(places), "what frees room at once comes before what needs some"


def test_every_key_of_the_table_file_is_documented() -> None:
    keys = {field.name for field in dataclasses.fields(TableSpec)} - {"name"}
    assert keys <= set(documented_defaults(CONFIGURATION)) | set(
        re.findall(r"^\| `(\w+)` \|", CONFIGURATION.read_text(), re.M)
    )


def test_defaults_of_the_table_file_are_the_documented_ones() -> None:
    documented = documented_defaults(CONFIGURATION)
    for field in dataclasses.fields(TableOptions):
        assert documented[field.name] == f"`{field.default}`", field.name


def test_every_setting_is_documented() -> None:
    assert {field.name for field in dataclasses.fields(Settings)} <= set(documented_defaults(CONFIGURATION))


def test_defaults_of_settings_are_the_documented_ones() -> None:
    documented = documented_defaults(CONFIGURATION)
    for field in dataclasses.fields(Settings):
        if field.name != "tables_file":  # its default is a path
            assert documented[field.name] == (f"`{field.default}`" if field.default else "none"), field.name


def test_ports_of_the_embedded_stack_are_documented() -> None:
    documented = documented_defaults(CONFIGURATION)
    for field in dataclasses.fields(Ports):
        assert documented[Ports.variable(field.name)] == f"`{field.default}`"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_path_or_package_index_of_one_machine(page: Path) -> None:
    private = re.compile(
        r"(?<![\w.-])/(?:work|tmp|root|home|Users)\b|\b(?:index-url|quay\.io|docker\.io|ghcr\.io|pypi\.org)\b"
    )
    assert not private.findall(page.read_text())


def test_example_of_a_table_file_is_valid() -> None:
    [example] = [block for block in blocks(CONFIGURATION, "yaml") if "tables:" in block]
    assert len(parse_tables(example).by_name) == 2


def test_example_of_a_further_table_is_valid() -> None:
    [entry] = blocks(ROOT / "docs/operations.md", "yaml")
    tables = parse_tables((ROOT / "include/tables.yaml").read_text() + "\n" + entry)
    assert "bronze_trades_coinbase" in tables["silver_trades"].upstream


def test_example_connections_that_this_package_reads_are_valid() -> None:
    examples = [json.loads(block) for block in blocks(CONFIGURATION, "json")]
    examples += [json.loads(text) for text in re.findall(r"--conn-json '(.*?)'", README.read_text(), re.DOTALL)]
    read = {
        "clickhouse": connections.read_clickhouse,
        "iceberg": connections.read_catalog,
        "docker": connections.read_docker,
    }
    kinds = [example["conn_type"] for example in examples]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "postgres": 2,
        "clickhouse": 2,
        "iceberg": 4,
        "spark": 2,
        "docker": 1,
        "kubernetes": 1,
        "kafka": 1,
        "http": 1,
    }
    for example in examples:
        kind, extra = example["conn_type"], example.get("extra", {})
        if reader := read.get(kind):
            fields = (example.get(key) for key in ("host", "port", "login", "password", "schema"))
            reader(ConnectionFields("example", *fields, extra))
        elif kind == "spark":
            host, port, deploy_mode = example.get("host"), example.get("port"), extra.get("deploy-mode")
            connections.read_spark_master("example", kind, host, port, deploy_mode)


def test_example_plan_is_valid() -> None:
    [example] = blocks(ROOT / "docs/architecture.md", "json")
    assert Plan.from_json(example).windows[0].table == "bronze_trades_kraken"


def test_quoted_messages_are_the_ones_that_are_raised() -> None:
    files = [*(ROOT / "plugins").rglob("*.py"), *(ROOT / "include").rglob("*.py")]
    source = re.sub(r'"\s*\n\s*f?"', "", "\n".join(file.read_text() for file in files))
    table = re.search(
        r"^\| task \| message \|.*?(?=\n\n)", (ROOT / "docs/operations.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert table
    quoted = [message for line in table[0].splitlines()[2:] for message in re.findall(r"`([^`]+)`", line.split("|")[2])]
    assert len(quoted) > 5
    for message in quoted:
        for part in message.split("…"):
            assert part.strip(" ';,") in source, message
