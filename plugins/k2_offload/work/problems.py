"""What is wrong with one table, or day, must not stop the others."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from k2_offload.core.errors import OffloadError, StaleWindow, Unreachable

log = logging.getLogger(__name__)


@contextmanager
def collecting(problems: list[str]) -> Iterator[None]:
    """Add what fails within to the problems, and go on after it.

    :raises Unreachable: if a service is down, which is the same for all others
    """
    try:
        yield
    except Unreachable:
        raise
    except StaleWindow as stale:  # the next run looks anew
        log.info("%s", stale)
    except OffloadError as error:
        problems.append(str(error))
