from __future__ import annotations

import re

from embedded.install.jars import read_checksums
from embedded.install.layout import ROOT


def test_every_jar_that_the_catalog_names_is_pinned_by_checksum():
    names = read_checksums(ROOT / "requirements" / "rest_catalog.sha256")
    assert all(len(digest) == 64 for digest in names.values())
    module = (ROOT / "requirements" / "rest_catalog.xml").read_text()
    dependencies = re.findall(r'name="(\S+)" rev="(\S+)"', module)
    assert len(dependencies) == module.count("<dependency ")
    for name, version in dependencies:
        assert any(jar.startswith(f"{name}-{version}") for jar in names), name
