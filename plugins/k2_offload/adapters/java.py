"""The Java that Spark runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from k2_offload.core.errors import ConfigurationError

OLDEST_JAVA, NEWEST_JAVA = 17, 23
"""What the Hadoop inside Spark 4.1 runs on: its log-in calls what JEP 486 took out of Java 24."""

_CURE = f"Install Java {OLDEST_JAVA} (Debian, Ubuntu: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"


def check_java() -> int:
    """The major version of the Java that spark-submit will use: ``JAVA_HOME``'s, else the first on ``PATH``.

    :raises ConfigurationError: if there is none, or Spark does not run on it
    """
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if not java or not os.access(java, os.X_OK):
        where = f"JAVA_HOME ({home}) holds no bin/java" if home else "there is no java on PATH"
        raise ConfigurationError(f"Spark needs Java: {where}. Nothing was moved. {_CURE}.")
    output = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=30).stderr
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    version = int(match[1]) if match else 0
    if not OLDEST_JAVA <= version <= NEWEST_JAVA:
        raise ConfigurationError(
            f"Spark needs Java {OLDEST_JAVA} to {NEWEST_JAVA}: {java} is version {version}. Nothing was moved. {_CURE}."
        )
    return version
