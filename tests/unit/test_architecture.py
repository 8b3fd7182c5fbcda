"""The drawing of the imports is what is imported, and the core stands on the standard library alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("core", "adapters", "work", "airflow_tasks", "cli", "web")
BESIDES = ("offload_job", "embedded", "bench")
FOLDERS = [*(f"k2_offload.{layer}" for layer in LAYERS), *BESIDES]


def drawn_arrows() -> set[tuple[str, str]]:
    text = (ROOT / "docs/architecture.md").read_text()
    [drawing] = [block for block in re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL) if "bench -->" in block]
    return set(re.findall(r"(\w+)(?:\[[^]]*\])? --> (\w+)", drawing))


def implied_by(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Who stands above whom: a folder may import what it reaches along arrows."""
    while more := {(a, d) for a, b in arrows for c, d in arrows if b == c} - arrows:
        arrows = arrows | more
    return arrows


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("k2_offload", *BESIDES, cache_dir=None)


def test_every_import_between_folders_follows_the_arrows_and_every_arrow_is_an_import(graph) -> None:
    imports = {
        (importer.rpartition(".")[2], imported.rpartition(".")[2])
        for importer in FOLDERS
        for imported in FOLDERS
        if importer != imported and graph.direct_import_exists(importer=importer, imported=imported, as_packages=True)
    }
    arrows = drawn_arrows()
    assert imports <= implied_by(arrows)
    assert arrows <= imports


def test_there_is_no_circle(graph) -> None:
    arrows = implied_by(drawn_arrows())
    assert not [pair for pair in arrows if pair[::-1] in arrows]
    assert graph.modules


def test_the_core_can_be_imported_where_nothing_is_installed() -> None:
    modules = sorted(f"k2_offload.core.{file.stem}" for file in (ROOT / "plugins/k2_offload/core").glob("[a-z]*.py"))
    program = f"import sys; sys.path.insert(0, {str(ROOT / 'plugins')!r}); import {', '.join(modules)}"
    result = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(modules) > 10
