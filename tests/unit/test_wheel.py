"""What the wheel holds, and that whoever builds it gets the same bytes."""

from __future__ import annotations

import re
import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

from k2_offload import __version__
from tests.support.wheel import ROOT, build_wheel, copy_sources


def files_below(folder: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {str(Path(line).relative_to(folder)) for line in listed.splitlines() if (ROOT / line).exists()}


def named_by_messages() -> set[str]:
    """Files of the repository that a person is told to look at, or to apply, as they are called below ``INCLUDE``."""
    texts = (file.read_text() for file in (ROOT / "plugins/k2_offload").rglob("*.py"))
    named = {name for text in texts for name in re.findall(r"\b(?:docker|include|requirements)/[\w./-]+\.\w+", text)}
    assert "docker/clickhouse/80_message_offsets.sql" in named
    return {name.removeprefix("include/") for name in named}


def test_it_holds_the_package_and_what_stands_below_include_and_is_the_same_wherever_it_is_built(tmp_path):
    here = build_wheel(ROOT, tmp_path / "here")
    elsewhere = build_wheel(copy_sources(tmp_path / "copy"), tmp_path / "elsewhere")
    assert elsewhere.name == here.name
    assert elsewhere.read_bytes() == here.read_bytes()

    with ZipFile(here) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        metadata = message_from_bytes(wheel.read(f"k2_offload-{__version__}.dist-info/METADATA"))
        entry_points = wheel.read(f"k2_offload-{__version__}.dist-info/entry_points.txt").decode()
    expected = {f"k2_offload/{name}" for name in files_below("plugins/k2_offload")}
    expected |= {f"k2_offload/include/{name}" for name in files_below("include")}
    expected |= {f"k2_offload/include/requirements/{name}" for name in ("spark.txt", "jars.xml", "jars.sha256")}
    expected |= {f"k2_offload/include/requirements/{name}" for name in ("lake_jars.xml", "lake_jars.sha256")}
    monitoring = {"docker/prometheus/k2_offload.yml", "docker/grafana/dashboards/k2_offload.json"}
    expected |= {f"k2_offload/include/{name}" for name in named_by_messages() | monitoring}
    assert found >= expected | {"k2_plugin.py"}
    assert "[airflow.plugins]\nk2_offload = k2_plugin:K2Plugin" in entry_points
    assert not [name for name in found - expected if not (ROOT / "plugins" / name).exists()], "only what is in the tree"
    assert not [name for name in found if "__pycache__" in name]
    assert metadata["Version"] == __version__
    airflow = {text for text in metadata.get_all("Requires-Dist", []) if re.match(r"apache-airflow[<>=]", text)}
    assert airflow == {"apache-airflow<4,>=3.3"}


def test_importing_the_package_loads_nothing_else_of_it_and_needs_nothing_installed():
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'plugins')!r}); import k2_offload; "
        "assert callable(k2_offload.airflow_dags); print(*(name for name in sys.modules if name.startswith('k2_')))"
    )
    result = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "k2_offload\n"
