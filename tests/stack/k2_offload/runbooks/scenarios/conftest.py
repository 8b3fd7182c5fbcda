"""Scenarios of `make runbooks` alone: each ``k2 run`` runs the DAGs."""

from __future__ import annotations

import pytest


@pytest.fixture
def runbook(runbook):
    def begin(section, **options):
        scenario = runbook(section, **options)
        scenario.real_runs = True
        return scenario

    return begin
