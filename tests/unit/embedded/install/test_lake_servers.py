from __future__ import annotations

import re

import pytest
import yaml

from embedded.install.jars import read_checksums
from embedded.install.lake_servers import OLDEST_GO, go_problem
from embedded.install.layout import ROOT

MODULE = (ROOT / "requirements" / "object_store" / "go.mod").read_text()


@pytest.mark.parametrize("version", [None, (1, 19), (1, 24)])
def test_a_go_that_is_missing_or_old_is_named_with_the_command(version):
    problem = go_problem(version)
    assert problem is not None
    assert "sudo apt-get install golang-go" in problem


def test_the_oldest_go_is_the_one_that_the_module_asks_for():
    assert go_problem(OLDEST_GO) is None
    assert re.search(r"^go (\d+)\.(\d+)", MODULE, re.MULTILINE).groups() == tuple(map(str, OLDEST_GO))


def test_the_store_is_the_one_of_the_containers():
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    image = compose["services"]["object-store"]["image"]
    version = image.rpartition(":")[2]
    assert re.search(rf"github\.com/versity/versitygw {re.escape(version)}\s", MODULE)


def test_every_jar_that_the_catalog_names_is_pinned_by_checksum():
    names = read_checksums(ROOT / "requirements" / "rest_catalog.sha256")
    assert all(len(digest) == 64 for digest in names.values())
    module = (ROOT / "requirements" / "rest_catalog.xml").read_text()
    dependencies = re.findall(r'name="(\S+)" rev="(\S+)"', module)
    assert len(dependencies) == module.count("<dependency ")
    for name, version in dependencies:
        assert any(jar.startswith(f"{name}-{version}") for jar in names), name
