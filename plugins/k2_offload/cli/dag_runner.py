"""Runs layers' DAGs one after another in this process, as ``airflow dags test`` does, without its start per layer.

    python -m k2_offload.cli.dag_runner '{"layers": ["bronze"], "tables": []}'

Standard output gets one JSON line per layer, ``{"layer", "state", "seconds"}``; everything else goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Run the layers until one fails."""
    request = json.loads(sys.argv[1])
    # Airflow and Spark write to standard output too; keep it for the events.
    events = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    from airflow.dag_processing.bundles.manager import DagBundlesManager  # noqa: PLC0415 - once output has been moved
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db  # noqa: PLC0415

    bundles = DagBundlesManager()  # type: ignore[no-untyped-call]
    bundles.sync_bundles_to_db()
    dags: dict[str, Any] = {}
    for bundle in bundles.get_all_dag_bundles():
        bundle.initialize()
        bag = BundleDagBag(bundle.path, bundle_path=bundle.path, bundle_name=bundle.name)
        sync_bag_to_db(bag, bundle.name, bundle.version)
        dags |= bag.dags
        for file, error in bag.import_errors.items():
            print(f"ERROR {file}: {error}", file=sys.stderr)
    for layer in request["layers"]:
        started = time.monotonic()
        dag = dags.get(f"k2_offload_{layer}")
        if dag is None:
            state = "missing"
        else:
            # The names of other layers' tables mean nothing to this DAG's trigger form.
            chosen = [name for name in request["tables"] if name in dag.params.get_param("tables").schema["examples"]]
            state = str(dag.test(run_conf={"tables": chosen}).state)
        print(json.dumps({"layer": layer, "state": state, "seconds": time.monotonic() - started}), file=events)
        if state != "success":
            sys.exit(1)


if __name__ == "__main__":
    main()
