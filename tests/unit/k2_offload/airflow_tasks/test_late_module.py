"""What is put off is loaded when it is used, and a task loads what its own DAG needs."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from k2_offload.airflow_tasks.late_module import import_late

ROOT = Path(__file__).resolve().parents[4]
TASK = """
import json, runpy, sys
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager
with _airflow_parsing_context_manager(dag_id="k2_offload_bronze", task_id="plan"):
    dags = runpy.run_path("dags/offload_layers.py")
offload = dags["k2_offload_bronze"].get_task("offload")
print(json.dumps([type(offload).__name__, sorted(sys.modules)]))
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """One with a module that says when it is loaded; gives its name."""
    name = f"late_{tmp_path.name.replace('-', '_')}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    (tmp_path / name / "slow.py").write_text(
        "ANSWER = 42\nclass Odd(Exception): ...\ndef twice(x, *, plus=0): return 2 * x + plus\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for known in [each for each in sys.modules if each.startswith(name)]:
        monkeypatch.delitem(sys.modules, known)
    yield name
    for known in [each for each in sys.modules if each.startswith(name)]:
        del sys.modules[known]


def is_loaded(package: str) -> bool:
    return "ANSWER" in vars(sys.modules[f"{package}.slow"])


def test_a_module_is_loaded_when_something_of_it_is_used(package):
    import_late(f"{package}.slow")
    slow = __import__(package, fromlist=["slow"]).slow
    assert not is_loaded(package)
    assert slow.ANSWER == 42
    assert is_loaded(package)
    assert slow.Odd is sys.modules[f"{package}.slow"].Odd
    with pytest.raises(AttributeError, match="nothing"):
        slow.nothing  # noqa: B018 - asked for


def test_a_function_may_be_imported_without_loading_it(package):
    import_late(f"{package}.slow", functions=["twice"])
    twice = __import__(f"{package}.slow", fromlist=["twice"]).twice
    assert not is_loaded(package)
    assert twice(20, plus=2) == 42
    assert is_loaded(package)


def test_what_is_loaded_stays_and_what_is_not_installed_stays_missing(package):
    loaded = __import__(f"{package}.slow", fromlist=["slow"])
    import_late(f"{package}.slow")
    assert sys.modules[f"{package}.slow"] is loaded
    for missing in (f"{package}.nothing", f"{package}.nothing.at.all", "no_such_package_anywhere.slow"):
        import_late(missing)
        assert missing not in sys.modules


def test_a_task_of_a_layer_loads_what_its_dag_needs():
    """It is the greater part of the time in which a small cycle moves nothing."""
    assert find_spec("kubernetes"), "the provider that is put off has to be here"
    done = subprocess.run([sys.executable, "-c", TASK], cwd=ROOT, capture_output=True, text=True, check=True)
    operator, modules = json.loads(done.stdout.splitlines()[-1])
    assert operator == "MappedOperator"
    assert not {"kubernetes.client", "kubernetes_asyncio.client", "openlineage.client"} & set(modules)
    assert not {f"k2_offload.work.{name}" for name in ("reconcile", "maintenance", "backfill", "report")} & set(modules)
