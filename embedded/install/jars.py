"""Jars, fetched by the Ivy inside pyspark and checked against pinned checksums: above all those that Spark loads."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from embedded.install.layout import Layout
from embedded.install.steps import SCHEME, STAMP_NAME, SetupError, fingerprint, fresh_log, is_current, locked, run, say
from k2_offload.adapters.java import find_java


def install_jars(layout: Layout, cache: Path) -> bool:
    """Fetch the pinned jars that Spark loads, as :func:`fetch_jars` does."""
    return fetch_jars(layout, "Spark's jars", layout.requirements / "jars.xml", layout.jars, cache)


def fetch_jars(layout: Layout, title: str, module: Path, folder: Path, cache: Path) -> bool:
    """Fetch pinned jars with the Ivy that ships inside pyspark, and check them.

    :param title: what they are, for people
    :param module: an Ivy module; its checksums stand beside it in a file of the same name that ends in ``.sha256``
    :param folder: where they belong; it holds nothing else afterwards
    :param cache: Ivy's own cache, shared between checkouts
    :returns: whether there was anything to do
    :raises SetupError: a download failed, or a jar is not the one that was pinned
    """
    checksums = module.with_suffix(".sha256")
    expected = fingerprint(SCHEME, module, checksums)
    if is_current(folder, expected) and all((folder / name).is_file() for name in read_checksums(checksums)):
        return False
    started = time.monotonic()
    log = fresh_log(layout.logs, f"setup-{folder.name}")
    ivy = next(layout.spark.path.glob("lib/python3*/site-packages/pyspark/jars/ivy-2*.jar"))
    java = find_java(os.environ) or "java"
    incoming = folder.with_name(f"{folder.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    pattern = f"{incoming}/[artifact]-[revision](-[classifier]).[ext]"
    ask_ivy = [java, "-jar", f"{ivy}", "-ivy", f"{module}", "-confs", "default"]
    with locked(cache / "lock", "another checkout's set-up is downloading jars"):
        run(title, [*ask_ivy, "-cache", cache, "-retrieve", pattern], log, os.environ)
        try:
            verify_jars(incoming, read_checksums(checksums), checksums.name)
        except SetupError:
            shutil.rmtree(incoming, ignore_errors=True)
            discard_cached_jars(cache)
            raise
    shutil.rmtree(folder, ignore_errors=True)
    (incoming / STAMP_NAME).write_text(expected)
    incoming.rename(folder)
    say(f"  {title}: installed in {time.monotonic() - started:.0f} s")
    return True


def read_checksums(path: Path) -> dict[str, str]:
    """Return file name → sha256 from a file in `sha256sum`'s format."""
    pairs = (line.split() for line in path.read_text().splitlines() if line)
    return {name: digest for digest, name in pairs}


def verify_jars(folder: Path, checksums: Mapping[str, str], pinned_in: str = "jars.sha256") -> None:
    """Raise SetupError unless `folder` holds exactly the jars of `checksums`, unchanged."""
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    wrong = [
        f"  {name}\n    pinned     {checksums.get(name, 'not')}\n    downloaded {found.get(name, 'not')}"
        for name in sorted(found.keys() | checksums.keys())
        if found.get(name) != checksums.get(name)
    ]
    if wrong:
        raise SetupError(
            f"Jars are not the ones pinned in {pinned_in}:\n" + "\n".join(wrong) + "\n"
            "They were thrown away and nothing uses them. Run `make setup` again to fetch them anew. If it says the\n"
            "same again, somebody on the way changes them; if you changed a version, pin the new sum."
        )


def discard_cached_jars(cache: Path) -> None:
    """Forget downloaded jars, so that the next run asks for them again."""
    for jar in cache.glob("**/*.jar"):
        jar.unlink()
