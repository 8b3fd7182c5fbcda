"""The wheel in an Airflow that knows nothing of this project's folders: three lines are a DAG file."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from k2_offload import __version__
from tests.stack.k2_offload.cli.conftest import START
from tests.support import table_file
from tests.support.wheel import ROOT, build_wheel

DAG_FILE = "from k2_offload import airflow_dags\n\nglobals().update(airflow_dags())\n"


class Installed:
    """A virtual environment with the wheel, beside the packages that `make setup` has installed.

    They are added to its path, which leaves out the file there that makes this checkout importable.
    """

    def __init__(self, folder: Path, stack) -> None:
        venv, self.folder = folder / "venv", folder
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        self.python, self.k2_command = venv / "bin" / "python", venv / "bin" / "k2"
        site_packages = next(venv.glob("lib/python3*/site-packages"))
        uv = [f"{Path(sys.executable).parent / 'uv'}", "pip", "install", "--quiet", "--offline", "--no-deps"]
        wheel = build_wheel(ROOT, folder / "dist")
        subprocess.run([*uv, "--python", str(self.python), str(wheel)], check=True)
        (site_packages / "others.pth").write_text(sysconfig.get_path("purelib"))
        self.package = site_packages / "k2_offload"
        for name in ("dags", "plugins"):
            (folder / name).mkdir()
        (folder / "dags" / "k2.py").write_text(DAG_FILE)
        path = f"{venv / 'bin'}:{stack.environment['PATH']}"
        self.environment = {
            **stack.environment,
            "PATH": path,
            "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(folder / "plugins"),
        }

    def run(self, *command: object, exit_code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(each) for each in command],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done

    def k2(self, *arguments: str, **options) -> subprocess.CompletedProcess[str]:
        return self.run(self.k2_command, *arguments, **options)


@pytest.fixture(scope="module")
def installed(tmp_path_factory, stack) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"), stack)


LOADED = """
import json
from airflow.dag_processing.dagbag import DagBag
bag = DagBag()
from airflow.plugins_manager import get_fastapi_plugins
from k2_offload.adapters import spark_submit
apps = [app["url_prefix"] for app in get_fastapi_plugins()[0]]
print(json.dumps([str(spark_submit.OFFLOAD), sorted(bag.dags), bag.import_errors, apps]))
"""


def test_one_cycle_with_nothing_but_the_wheel(workbench, installed):
    assert "ledger" not in installed.k2("--help").stderr
    assert installed.k2("--version").stdout.strip() == __version__

    table = workbench.create_trades()
    tables = installed.folder / "my_tables.yaml"
    tables.write_text(table_file([workbench.spec(table)]))
    workbench.insert_trades(table, START, 200)
    named = {"AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(tables)}

    loaded = installed.run(installed.python, "-c", LOADED, **named)
    assert json.loads(loaded.stdout.splitlines()[-1]) == [
        str(installed.package / "include" / "spark_jobs" / "offload.py"),
        ["k2_backfill", "k2_maintenance", "k2_offload_bronze", "k2_reconcile", "k2_report"],
        {},
        ["/k2"],
    ]
    assert "1 tables in" in installed.k2("validate", **named).stdout

    installed.k2("run", table, **named)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)
    assert sum(workbench.cold_rows(table).values()) == 200


def test_without_a_table_file_of_ones_own_nothing_runs(installed):
    """The wheel's own is an example; an upgrade would replace it."""
    said = installed.k2("status", exit_code=1, AIRFLOW__K2_OFFLOAD__TABLES_FILE="").stderr
    assert "tables_file is not set" in said
    assert "tables.yaml, to a place of your own" in " ".join(said.split())


def test_the_job_brings_its_package_along_and_no_neighbour_of_it(installed, session_settings):
    """Airflow's packages stand beside it, and one of them has the import name of pyspark."""
    program = (
        f"import sys; sys.path.insert(0, {str(installed.package / 'include' / 'spark_jobs')!r}); "
        "import offload_job.application, k2_offload; print(k2_offload.__file__, *sys.path, sep='\\n')"
    )
    package, *path = installed.run(session_settings.layout.spark.python, "-I", "-c", program).stdout.splitlines()
    assert package == str(installed.package / "__init__.py")
    assert str(installed.package.parent) not in path
