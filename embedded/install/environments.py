"""The virtual environments, made from hash-pinned lock files by uv (itself installed by pip, hash-pinned)."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from embedded.install.layout import Environment, Layout
from embedded.install.steps import SCHEME, STAMP_NAME, fingerprint, fresh_log, is_current, run, say


def environment_fingerprint(environment: Environment) -> str:
    """Hash what an environment depends on: its place, the interpreter it is made from and its lock files."""
    return fingerprint(SCHEME, str(environment.path), base_python(), sys.version, *environment.locks)


def base_python() -> str:
    """The interpreter outside any virtual environment, so that set-up may run from within the one it replaces."""
    return str(Path(getattr(sys, "_base_executable", None) or sys.executable).resolve())


def install_environment(environment: Environment, layout: Layout) -> bool:
    """Make one environment hold exactly what its lock files say.

    :returns: whether there was anything to do
    :raises SetupError: a command failed
    """
    expected = environment_fingerprint(environment)
    if is_current(environment.path, expected):
        return False
    started = time.monotonic()
    log = fresh_log(layout.logs, f"setup-{environment.path.name.removeprefix('.')}")
    variables = installer_variables(os.environ)
    (environment.path / STAMP_NAME).unlink(missing_ok=True)
    if not is_usable(environment):
        pip_option = [] if environment.has_pip else ["--without-pip"]
        run(
            f"{environment.title}: virtual environment",
            [base_python(), "-m", "venv", "--clear", *pip_option, environment.path],
            log,
            variables,
        )
    if environment.has_pip:
        run(
            f"{environment.title}: installer",
            [environment.python, "-m", "pip", "install", "--require-hashes", "-r", layout.bootstrap],
            log,
            variables,
        )
    # A few packages come as source: what builds them is pinned too (build constraints).
    uv_sync = [f"{layout.airflow.path}/bin/uv", "pip", "sync", "--python", f"{environment.python}"]
    run(
        f"{environment.title}: packages",
        [*uv_sync, "--require-hashes", "--build-constraints", layout.bootstrap, *environment.locks],
        log,
        variables,
    )
    link_project(environment, layout.root)
    (environment.path / STAMP_NAME).write_text(expected)
    say(f"  {environment.title}: installed in {time.monotonic() - started:.0f} s")
    return True


def installer_variables(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment, with pip and uv told to be quiet and to take no interpreter of their own."""
    variables = {
        **inherited,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_PROGRESS_BAR": "off",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    if pip_index := inherited.get("PIP_INDEX_URL"):
        variables.setdefault("UV_DEFAULT_INDEX", pip_index)  # a mirror configured for pip serves uv as well
    return variables


def is_usable(environment: Environment) -> bool:
    """Whether the environment's interpreter runs and is the Python that set-up runs on."""
    question = "import sys; print(sys.version, end='')"
    try:
        answer = subprocess.run([environment.python, "-c", question], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return answer.returncode == 0 and answer.stdout == sys.version


def link_project(environment: Environment, root: Path) -> None:
    """Make `import embedded` and `import k2_offload` work in an environment."""
    site_packages = next(environment.path.glob("lib/python3*/site-packages"))
    (site_packages / "k2_offload.pth").write_text(f"{root}\n{root / 'plugins'}\n")


def write_k2_command(environment: Environment, root: Path) -> None:
    """Put `k2` beside the environment's other commands; it finds the embedded stack's AIRFLOW_HOME by itself."""
    script = environment.path / "bin" / "k2"
    state = shlex.quote(str(root / ".state"))
    text = (
        "#!/bin/sh\n"
        "# Written by set-up. AIRFLOW_HOME says which Airflow's connections and settings apply.\n"
        f'[ -n "$AIRFLOW_HOME" ] || {{ state={state}; export AIRFLOW_HOME="${{K2_STATE_DIR:-$state}}/airflow"; }}\n'
        f'exec {shlex.quote(str(environment.python))} -m embedded.k2 "$@"\n'
    )
    if not script.exists() or script.read_text() != text:
        script.write_text(text)
        script.chmod(0o755)
