"""What the documentation names exists, and what exists for users is documented."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from embedded.stack.settings import Ports
from k2_offload.adapters.settings import Settings
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core import connections
from k2_offload.core.connections import ConnectionFields
from k2_offload.core.plan import Plan
from k2_offload.core.tables import TableOptions, TableSpec

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "docs/configuration.md"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What is said to operators while it runs names commands too.
MESSAGES = [*sorted((ROOT / "plugins").rglob("*.py")), *sorted((ROOT / "plugins").rglob("*.md"))]


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
        code = snippet.partition(" #")[0]
        if through_make := re.search(r'make k2 ARGS="?([a-z][^"]*)', code):
            yield through_make[1]
        elif direct := re.search(r"(?:^|[ /])k2 ([a-z-].*)", code):
            yield direct[1]


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


@pytest.mark.parametrize("page", [*PAGES, *MESSAGES], ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    named = {target for code in snippets(page.read_text()) for target in re.findall(r"\bmake ([a-z][a-z0-9-]*)", code)}
    assert named <= make_targets()


def test_k2_commands_are_found_at_all() -> None:
    assert list(k2_commands('see `k2 status` and\n```sh\nmake k2 ARGS="run --json"  # now\n```\n')) == [
        "run --json",
        "status",
    ]
    assert sum(1 for page in PAGES for _ in k2_commands(page.read_text())) > 10


@pytest.mark.parametrize("page", [*PAGES, *MESSAGES], ids=name_of)
def test_k2_commands_exist(page: Path) -> None:
    for line in k2_commands(page.read_text()):
        command = command_line()
        words = line.split()
        while hasattr(command, "commands") and words and not words[0].startswith("-"):
            word = words.pop(0)
            assert word in command.commands, f"k2 {line}"
            command = command.commands[word]
        known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
        used = {word for word in words if word.startswith("--")}
        assert used <= known | {"--help"}, f"k2 {line}"


def test_every_key_of_the_table_file_is_documented() -> None:
    keys = {field.name for field in dataclasses.fields(TableSpec)} - {"name"}
    assert keys <= set(documented_defaults(CONFIGURATION)) | set(
        re.findall(r"^\| `(\w+)` \|", CONFIGURATION.read_text(), re.M)
    )
    assert keys <= set(re.findall(r"`(\w+)`", (ROOT / "README.md").read_text()))


@pytest.mark.parametrize("page", [CONFIGURATION, ROOT / "README.md"], ids=name_of)
def test_defaults_of_the_table_file_are_the_documented_ones(page: Path) -> None:
    documented = documented_defaults(page)
    for field in dataclasses.fields(TableOptions):
        assert documented[field.name] == f"`{field.default}`", field.name


@pytest.mark.parametrize("page", [CONFIGURATION, ROOT / "README.md"], ids=name_of)
def test_every_setting_is_documented(page: Path) -> None:
    assert {field.name for field in dataclasses.fields(Settings)} <= set(documented_defaults(page))


@pytest.mark.parametrize("page", [CONFIGURATION, ROOT / "README.md"], ids=name_of)
def test_defaults_of_settings_are_the_documented_ones(page: Path) -> None:
    documented = documented_defaults(page)
    for field in dataclasses.fields(Settings):
        if field.name != "tables_file":  # its default is a path
            assert documented[field.name] == (f"`{field.default}`" if field.default else "none"), field.name


def test_ports_of_the_embedded_stack_are_documented() -> None:
    documented = documented_defaults(CONFIGURATION)
    readme = (ROOT / "README.md").read_text()
    for field in dataclasses.fields(Ports):
        assert documented[Ports.variable(field.name)] == f"`{field.default}`"
        assert f"`{Ports.variable(field.name)}`" in readme
        assert f"`{field.default}`" in readme


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_path_or_package_index_of_one_machine(page: Path) -> None:
    private = re.compile(
        r"(?<![\w.-])/(?:work|tmp|root|home|Users)\b|\b(?:index-url|quay\.io|docker\.io|ghcr\.io|pypi\.org)\b"
    )
    assert not private.findall(page.read_text())


def test_example_of_a_table_file_is_valid() -> None:
    [example] = [block for block in blocks(CONFIGURATION, "yaml") if "tables:" in block]
    assert len(parse_tables(example).by_name) == 2


def test_entry_in_the_readme_is_valid() -> None:
    [entry] = blocks(ROOT / "README.md", "yaml")
    tables = parse_tables((ROOT / "include/tables.yaml").read_text() + "\n" + entry)
    assert "bronze_trades_coinbase" in tables["silver_trades"].upstream


def test_example_connections_are_valid() -> None:
    examples = [json.loads(block) for block in blocks(CONFIGURATION, "json")]
    examples += [
        json.loads(text) for text in re.findall(r"--conn-json '(.*?)'", (ROOT / "README.md").read_text(), re.DOTALL)
    ]
    read = {"clickhouse": connections.read_clickhouse, "iceberg": connections.read_catalog}
    kinds = [example["conn_type"] for example in examples]
    assert {kind: kinds.count(kind) for kind in kinds} == {"postgres": 2, "clickhouse": 2, "iceberg": 3, "spark": 2}
    for example in examples:
        if reader := read.get(example["conn_type"]):
            fields = (example.get(key) for key in ("host", "port", "login", "password", "schema"))
            reader(ConnectionFields("example", *fields, example.get("extra", {})))


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
