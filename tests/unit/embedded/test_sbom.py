"""What ships is in the bill of materials and on the page of licences, and no licence came in unseen."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from cyclonedx.model.component import Component, ComponentScope
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from embedded.install.layout import DEFAULT_CLICKHOUSE_VERSION, ROOT, Layout
from embedded.sbom.__main__ import PAGE, bill, disallowed, page
from embedded.sbom.components import (
    JARS,
    PULLED,
    SPARK_JARS,
    declared_by,
    exact_licence,
    named_by_extras,
    packages_of,
    python_components,
    read_lock,
    shipped,
)
from embedded.sbom.licences import REVIEWED

LAYOUT = Layout.of(ROOT, DEFAULT_CLICKHOUSE_VERSION)
LOCKS = [ROOT / "requirements.txt", ROOT / "requirements/spark.txt"]
JAR_CHECKSUMS = [ROOT / "requirements/jars.sha256", ROOT / "docker/lake_jars.sha256"]


@cache
def parts() -> dict[str, list[Component]]:
    return shipped(LAYOUT)


@cache
def text() -> str:
    return bill(LAYOUT, parts())


@cache
def made() -> Any:
    return json.loads(text())


@cache
def words() -> set[str]:
    return set(re.findall(r"[^\s,|]+", PAGE.read_text()))


def every_component() -> Iterator[dict[str, Any]]:
    for component in made()["components"]:
        yield component
        yield from component.get("components", ())


def test_the_page_is_the_one_that_make_sbom_writes() -> None:
    assert PAGE.read_text() == page(parts()), "run `make sbom`, and look at what it changes"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_locked_package_is_in_the_bill_with_its_checksums_and_on_the_page(lock) -> None:
    found = {component["purl"]: json.dumps(component) for component in every_component()}
    entries = re.split(r"^(?=\w)", lock.read_text(), flags=re.MULTILINE)[1:]
    entries = [entry for entry in entries if "; sys_platform == 'win32'" not in entry]
    assert len(entries) > 5
    for entry in entries:
        name, version = re.sub(r"\[.*?\]", "", entry.split()[0]).split("==")
        assert name in words()
        for checksum in re.findall("sha256:([0-9a-f]+)", entry):
            assert checksum in found[f"pkg:pypi/{name}@{version}"]


@pytest.mark.parametrize("checksums", JAR_CHECKSUMS, ids=lambda path: path.stem)
def test_every_pinned_jar_is_in_the_bill_with_its_checksum_and_on_the_page(checksums) -> None:
    for line in checksums.read_text().splitlines():
        digest, file = line.split()
        [jar] = [jar for jar in every_component() if {"alg": "SHA-256", "content": digest} in jar.get("hashes", ())]
        assert file.startswith(f"{jar['name']}-{jar['version']}")
        assert jar["name"] in words()


def test_every_jar_inside_pyspark_is_in_the_bill() -> None:
    files = {jar.name for jar in LAYOUT.spark.path.rglob("pyspark/**/*.jar")}
    [pyspark] = [component for component in made()["components"] if component["name"] == "pyspark"]
    for jar in pyspark["components"]:
        classifier = re.findall(r"classifier=(.+)", jar["purl"])
        files.remove("-".join([jar["name"], jar["version"], *classifier]) + ".jar")
    assert files == set()


def test_every_image_of_the_compose_file_is_on_the_page() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    names = {service["image"].partition(":")[0] for service in services.values()}
    assert len(names) > 5
    assert {name for name in names if not name.startswith("k2-offload")} <= words()


def test_the_bill_has_nothing_that_does_not_ship() -> None:
    names = {component["name"] for component in every_component()}
    assert named_by_extras(ROOT) <= names
    assert {"kubernetes", "openlineage-python", "pyspark", "python"} <= names
    assert names.isdisjoint({"pytest", "ruff", "chdb", "cyclonedx-python-lib", "grafana/grafana", "pywin32"})


def test_what_the_image_does_not_install_is_optional_and_what_linux_does_not_is_left_out(tmp_path) -> None:
    places = ("python_full_version < '3.12'", "python_full_version >= '3.12'", "sys_platform == 'win32'")
    pins = (f"jinja2=={number}.0 ; {place} \\\n    --hash=sha256:0{number}\n" for number, place in enumerate(places))
    lock = tmp_path / "lock.txt"
    lock.write_text("".join(pins))
    found = [*python_components(read_lock(lock), {}, "3.12.13")]
    assert [(one.version, one.scope) for one in found] == [("0.0", ComponentScope.OPTIONAL), ("1.0", None)]


def test_the_bill_is_valid_and_names_no_host() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text()) is None
    assert "://" not in json.dumps([*made()["components"], *made()["dependencies"]])


def test_every_licence_is_allowed() -> None:
    assert disallowed(parts()) == []


@pytest.mark.parametrize(
    ("part", "licence", "allowed"),
    [
        (JARS, "MIT", True),
        (JARS, "GPL-3.0-only", False),
        (JARS, "GPL-3.0-only OR MIT", True),
        (JARS, "GPL-3.0-only AND MIT", False),
        (JARS, "MIT AND (GPL-3.0-only OR ISC)", False),
        (JARS, "AGPL-3.0-only", False),
        (PULLED, "AGPL-3.0-only", True),
    ],
)
def test_other_licences_are_not_allowed(part, licence, allowed) -> None:
    component = Component(name="thing", licenses=[exact_licence(licence)])
    assert disallowed({part: [component]}) == ([] if allowed else [f"thing: {licence}"])


def test_a_package_without_an_exact_licence_is_refused(tmp_path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("unheard-of==1.0 \\\n    --hash=sha256:00\n    # via k2-offload (pyproject.toml)\n")
    with pytest.raises(ValueError, match="unheard-of declares no exact licence: read it"):
        list(python_components(read_lock(lock), {}, "3.12.0"))


def test_every_reviewed_licence_is_needed_and_contradicts_no_package() -> None:
    names = {name for components in parts().values() for item in components for name in (item.name, item.group)}
    names |= {f"{item.group}:{item.name}" for item in [*parts()[JARS], *parts()[SPARK_JARS]]}
    assert REVIEWED.keys() - names == set()
    for environment in (LAYOUT.airflow, LAYOUT.spark):
        for name, package in packages_of(environment).items():
            if name in REVIEWED:
                assert declared_by(package) in {None, REVIEWED[name]}, name
