"""The real plan, move and commit against simulated services, in any order and with anything going wrong."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from tests.model.machine import Offload

TestOffload = Offload.TestCase
TestOffload.settings = settings(
    max_examples=int(os.environ.get("K2_MODEL_EXAMPLES", "150")),
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
