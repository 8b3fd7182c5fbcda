"""pyarrow is told of the authorities, and of everything else that pyiceberg tells it."""

from __future__ import annotations

import pytest
from pyiceberg.io import load_file_io
from pyiceberg.io.pyarrow import PyArrowFileIO

from k2_offload.adapters import store_files
from k2_offload.core.connections import ConnectionFields, read_catalog
from k2_offload.core.errors import ConfigurationError

EXTRA = {
    "warehouse": "s3://lake/w", "s3.endpoint": "https://s3.internal:7070", "client.region": "eu-central-1",
    "s3.access-key-id": "k", "s3.secret-access-key": "s", "s3.session-token": "t", "s3.request-timeout": "7",
    "s3.proxy-uri": "http://user:pass@proxy:3128", "s3.force-virtual-addressing": "true",
}  # fmt: skip


def arguments(file_io):
    return file_io.fs_by_scheme("s3", "lake").__reduce__()[1][0]


def properties(**changes):
    fields = ConnectionFields("c", "https://rest", None, None, None, None, EXTRA | changes)
    return dict(read_catalog(fields).pyiceberg)


def test_the_stores_file_system_differs_in_its_authorities_alone():
    trusting = load_file_io(properties(ca_certs="/ca.pem"), "s3://lake/w")
    assert isinstance(trusting, store_files.TrustingFiles)
    usual = load_file_io(properties() | {"py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO"}, "s3://lake/w")
    assert type(usual) is PyArrowFileIO
    assert arguments(trusting) == arguments(usual) | {"tls_ca_file_path": "/ca.pem"}
    assert arguments(usual)["tls_ca_file_path"] == ""


def test_keys_of_the_environment_are_looked_for_as_before():
    without = {"s3.access-key-id": None, "s3.secret-access-key": None, "s3.session-token": None}
    given = {key: value for key, value in properties(ca_certs="/ca.pem").items() if key not in without}
    assert arguments(load_file_io(given, "s3://lake/w"))["access_key"] is None


def test_a_pyarrow_that_cannot_is_named(monkeypatch):
    class OldFileSystem:
        def __reduce__(self):
            return dict, ({"region": "x"},)

    monkeypatch.setattr(PyArrowFileIO, "_initialize_s3_fs", lambda *_: OldFileSystem())
    with pytest.raises(ConfigurationError, match=r"pyarrow .* cannot be told which authorities"):
        load_file_io(properties(ca_certs="/ca.pem"), "s3://lake/w").fs_by_scheme("s3", "lake")
