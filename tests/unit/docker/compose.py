"""The compose file as these tests read it: merged, and with the values that an untouched .env has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
COMPOSE = ROOT / "docker-compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
ENVIRONMENT = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)


@cache
def load() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())


def services() -> dict[str, dict[str, Any]]:
    return load()["services"]


def texts(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from texts(key)
            yield from texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts(value)
    elif node is not None:
        yield str(node)


def secret_names() -> set[str]:
    """Variables that .env.example leaves to be filled."""
    return {name for name, value in ENVIRONMENT.findall((ROOT / ".env.example").read_text()) if not value}


def interpolated(text: str) -> str:
    """As compose does it; a secret becomes its name between angles: ``<K2_AIRFLOW_PASSWORD>``."""
    return VARIABLE.sub(lambda match: match[3] if match[2] == "-" else f"<{match[1]}>", text)


def environment(service: str) -> dict[str, str]:
    return {name: interpolated(str(value)) for name, value in services()[service].get("environment", {}).items()}


def image(service: str) -> tuple[str, str]:
    """Repository and tag."""
    repository, _, tag = interpolated(services()[service]["image"]).rpartition(":")
    return repository, tag


def mounted_files(service: str) -> dict[str, Path]:
    """Files and folders of this project in a service's containers, by their paths there."""
    mounts = (mount.split(":") for mount in services()[service].get("volumes", []))
    return {target: ROOT / source for source, target, *_ in mounts if source.startswith("./")}


def one_shots() -> set[str]:
    """Services that others wait for to end."""
    return {
        name
        for service in services().values()
        for name, condition in service.get("depends_on", {}).items()
        if condition["condition"] == "service_completed_successfully"
    }
