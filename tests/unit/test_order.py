"""A file that was renamed would fall out of the order unseen, and one worker would be left alone with it at the end."""

from __future__ import annotations

import pytest

from embedded.install.layout import ROOT
from tests.support.order import SLOWEST_FILES


@pytest.mark.parametrize("file", SLOWEST_FILES)
def test_the_files_that_are_begun_first_are_there(file: str) -> None:
    assert (ROOT / file).is_file()
