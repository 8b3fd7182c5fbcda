"""The commands keep Airflow's chatter off the screen for good; in a test session only until the test ends."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _silence_ends_with_the_test() -> Iterator[None]:
    configuration = structlog.get_config()
    with warnings.catch_warnings():
        yield
    logging.disable(logging.NOTSET)
    structlog.configure(**configuration)
