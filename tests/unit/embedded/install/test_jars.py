from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from embedded.install.jars import read_checksums, verify_jars
from embedded.install.layout import ROOT
from embedded.install.steps import SetupError


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_pinned_checksums_name_every_jar_of_the_module() -> None:
    names = read_checksums(ROOT / "requirements" / "jars.sha256")
    module = (ROOT / "requirements" / "jars.xml").read_text()
    assert len(names) == module.count("<dependency ")
    assert all(len(digest) == 64 for digest in names.values())


def test_jars_as_pinned_pass(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"content")
    verify_jars(tmp_path, {"a.jar": _sha256(b"content")})


def test_changed_jar_is_refused_with_both_sums(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_bytes(b"tampered")
    with pytest.raises(SetupError) as caught:
        verify_jars(tmp_path, {"a.jar": _sha256(b"content")})
    message = str(caught.value)
    assert _sha256(b"content") in message
    assert _sha256(b"tampered") in message
    assert "make setup" in message


@pytest.mark.parametrize(("present", "pinned"), [([], ["a.jar"]), (["a.jar"], [])])
def test_missing_and_unpinned_jars_are_refused(tmp_path: Path, present: list[str], pinned: list[str]) -> None:
    for name in present:
        (tmp_path / name).write_bytes(b"content")
    with pytest.raises(SetupError, match=r"a\.jar"):
        verify_jars(tmp_path, dict.fromkeys(pinned, _sha256(b"content")))
