"""Set-up: makes the environments that everything else runs in, from the lock files in `requirements/`.

Run it as `make setup`. It needs nothing but Python's standard library, because it runs before anything is installed.
Every package and jar is pinned by checksum. Finished steps leave a stamp (a hash of what they were made from), so a
second run does nothing, and a run that was interrupted continues where it stopped.

    .venv                            Airflow, the command line, tests and linters
    .state/spark-venv                pyspark (spark-submit), apart from Airflow's pyspark-client
    .state/clickhouse-venv-VERSION   chDB, the engine behind the embedded ClickHouse
    .state/bench-venv                for `make bench` only: dlt, which needs packages that Airflow does not go with
    .state/jars                      what Spark loads: Iceberg, the ClickHouse and the Postgres driver
    .state/object-store, .state/rest-catalog, .state/s3-jars
                                     for `make test-stack-real` only: an S3 server, built by Go, and an Iceberg catalog
    .state/class-archive             Java classes of the offload job as loaded before, which saves a third of its start
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from embedded.install.alertmanager import install_alertmanager
from embedded.install.class_archive import install_class_archive
from embedded.install.environments import environment_fingerprint, install_environment, write_k2_command
from embedded.install.jars import install_jars
from embedded.install.lake_servers import install_lake_servers
from embedded.install.layout import DEFAULT_CLICKHOUSE_VERSION, ROOT, Layout
from embedded.install.machine import check_machine, dotted
from embedded.install.steps import SetupError, is_current, locked, say


def shared_cache(environment: Mapping[str, str]) -> Path:
    """The folder for downloads that all checkouts of this user share."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "k2-offload"


def install(layout: Layout, *, with_bench: bool = False, with_real_servers: bool = False) -> bool:
    """Bring everything up to date.

    :param with_bench: whether to make the environment of the tools that `make bench` compares with, too
    :param with_real_servers: whether to make the servers of `make test-stack-real`, too
    :returns: whether there was anything to do
    :raises SetupError: something is missing or failed; the message says what, and what to do
    """
    check_machine(os.environ)
    with locked(layout.root / ".state" / "setup.lock", "another set-up of this checkout is running"):
        if not is_current(layout.airflow.path, environment_fingerprint(layout.airflow)):
            say("Set-up: downloads about 900 MB the first time; after that this takes no time.")
        environments = (*layout.environments, layout.bench) if with_bench else layout.environments
        changed = [install_environment(environment, layout) for environment in environments]
        changed.append(install_jars(layout, shared_cache(os.environ) / "ivy"))
        changed.append(install_class_archive(layout))
        if with_real_servers:
            changed.append(install_lake_servers(layout, shared_cache(os.environ) / "ivy"))
            changed.append(install_alertmanager(layout))
        write_k2_command(layout.airflow, layout.root)
        return any(changed)


def main() -> int:
    """Run set-up from the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m embedded.install", description="Make K2 offload's environments.")
    parser.add_argument(
        "--clickhouse-version",
        metavar="VERSION",
        default=os.environ.get("K2_CLICKHOUSE_VERSION") or DEFAULT_CLICKHOUSE_VERSION,
        help="which embedded ClickHouse to install (default: K2_CLICKHOUSE_VERSION, else %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing when everything is up to date")
    parser.add_argument("--with-bench", action="store_true", help="also install what `make bench` compares with")
    parser.add_argument(
        "--with-real-servers", action="store_true", help="also make the servers that `make test-stack-real` starts"
    )
    arguments = parser.parse_args()
    try:
        changed = install(
            Layout.of(ROOT, arguments.clickhouse_version),
            with_bench=arguments.with_bench,
            with_real_servers=arguments.with_real_servers,
        )
    except SetupError as error:
        say(f"Set-up stopped.\n{error}")
        return 1
    except KeyboardInterrupt:
        say("Set-up interrupted. Nothing is broken; `make setup` continues where it stopped.")
        return 130
    if changed or not arguments.quiet:
        say(f"Set-up is complete: Python {dotted(sys.version_info[:3])}, ClickHouse {arguments.clickhouse_version}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
