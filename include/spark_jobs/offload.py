"""Moves the windows of a plan: see :mod:`offload_job.application`.

spark-submit --driver-class-path <jars> offload.py PLAN.json
"""

from __future__ import annotations

import sys

from offload_job.application import main

if __name__ == "__main__":
    sys.exit(main())
