"""Which Java is found, and what is said of one that will not do; set-up's own test has more of the latter."""

from __future__ import annotations

import pytest

from k2_offload.adapters.java import check_java, parse_java_version
from k2_offload.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "22-ea" 2024-03-19', 22),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "17.0.1" 2021', 17),
        ("bash: java: cannot execute", None),
    ],
)
def test_version_is_read_from_what_java_prints(text, version):
    assert parse_java_version(text) == version


def test_a_java_that_will_do_is_told_by_its_version(tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\"' >&2\n")
    java.chmod(0o755)
    assert check_java({"JAVA_HOME": str(tmp_path)}) == 21


def test_no_java_is_refused_with_what_to_type(tmp_path):
    with pytest.raises(ConfigurationError, match=r"Java was not found.*apt-get install default-jre-headless"):
        check_java({"PATH": str(tmp_path)})
