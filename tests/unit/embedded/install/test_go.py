from __future__ import annotations

import re

import pytest
import yaml

from embedded.install.go import OLDEST_GO, go_problem
from embedded.install.layout import ROOT

MODULES = {name: (ROOT / "requirements" / name / "go.mod").read_text() for name in ("object_store", "alertmanager")}
OF_CONTAINERS = {
    "object-store": ("object_store", "github.com/versity/versitygw"),
    "alertmanager": ("alertmanager", "github.com/prometheus/alertmanager"),
}


@pytest.mark.parametrize("version", [None, (1, 19), (1, 24)])
def test_a_go_that_is_missing_or_old_is_named_with_the_command(version):
    problem = go_problem(version)
    assert problem is not None
    assert "sudo apt-get install golang-go" in problem


@pytest.mark.parametrize("module", MODULES)
def test_the_oldest_go_is_the_one_that_the_modules_ask_for(module):
    assert go_problem(OLDEST_GO) is None
    asked = re.search(r"^go (\d+)\.(\d+)", MODULES[module], re.MULTILINE)
    assert asked is not None
    assert asked.groups() == tuple(map(str, OLDEST_GO))


@pytest.mark.parametrize("service", OF_CONTAINERS)
def test_what_is_built_is_what_the_containers_run(service):
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    version = compose["services"][service]["image"].rpartition(":")[2]
    module, name = OF_CONTAINERS[service]
    assert re.search(rf"{re.escape(name)} {re.escape(version)}\s", MODULES[module])
