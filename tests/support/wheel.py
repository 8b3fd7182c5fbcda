"""The wheel, built from a folder that holds this project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", ".gitignore", "plugins", "include", "requirements", "docker")


def copy_sources(folder: Path) -> Path:
    """All that a wheel is built from, with other times of change; returns the folder."""
    folder.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / name, copy_function=shutil.copyfile, ignore=ignored)
        else:
            shutil.copyfile(source, folder / name)
    return folder


def build_wheel(source: Path, target: Path) -> Path:
    """As `make wheel` does; returns the file."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(command, cwd=source, capture_output=True, check=True)
    [wheel] = target.glob("*.whl")
    return wheel
