"""Tidies the cold tables of a plan: see :mod:`offload_job.maintenance.application`.

spark-submit --driver-class-path <jars> maintain.py PLAN.json REPORT.json
"""

from __future__ import annotations

import sys

from offload_job.maintenance.application import main

if __name__ == "__main__":
    sys.exit(main())
