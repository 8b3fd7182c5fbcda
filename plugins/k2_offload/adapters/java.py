"""The Java that Spark runs on. Needs nothing but the standard library: set-up asks before anything is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping

from k2_offload.core.errors import ConfigurationError

OLDEST_JAVA, NEWEST_JAVA = 17, 23
"""What the Hadoop inside Spark 4.1 runs on: its log-in calls what JEP 486 took out of Java 24."""

CURE = (
    "On Debian or Ubuntu: sudo apt-get install default-jre-headless (openjdk-21-jre-headless where that is too new). "
    "Another one that is installed already: set JAVA_HOME to its folder."
)


def find_java(environment: Mapping[str, str]) -> str | None:
    """The Java that spark-submit will use: ``JAVA_HOME``'s, else the first on ``PATH``; ``None`` without either."""
    home = environment.get("JAVA_HOME")
    return f"{home}/bin/java" if home else shutil.which("java", path=environment.get("PATH"))


def parse_java_version(text: str) -> int | None:
    """The major version that ``java -version`` prints (8 for "1.8.0_392"), ``None`` if there is none in the text."""
    match = re.search(r'version "(?:1\.)?(\d+)', text)
    return int(match[1]) if match else None


def check_java(environment: Mapping[str, str] = os.environ) -> int:
    """The major version of the Java that spark-submit will use.

    :raises ConfigurationError: if there is none, or Spark does not run on it; says where it was looked for
    """
    needed = f"Spark needs Java {OLDEST_JAVA} to {NEWEST_JAVA}. {CURE}"
    home, java = environment.get("JAVA_HOME"), find_java(environment)
    if java is None:
        raise ConfigurationError(f"Java was not found (JAVA_HOME, then PATH). {needed}")
    source = f"JAVA_HOME={home}" if home else f"PATH: {java}"
    try:
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigurationError(f"Java ({source}) cannot be run: {error}. {needed}") from None
    version = parse_java_version(shown.stderr + shown.stdout)
    if version is None:
        raise ConfigurationError(f"Java ({source}) does not tell its version: `{java} -version` failed. {needed}")
    if not OLDEST_JAVA <= version <= NEWEST_JAVA:
        raise ConfigurationError(f"Java {version} was found ({source}). {needed}")
    return version
