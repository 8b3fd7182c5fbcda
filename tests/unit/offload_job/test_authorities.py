"""What Spark's executors are told of the trust store, beside what somebody else has told them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from offload_job.authorities import give_to_executors


@pytest.mark.parametrize(
    ("before", "files", "options"),
    [
        ({}, "/tmp/k2.jks", ""),
        ({"spark.files": "/a,/b", "spark.executor.extraJavaOptions": "-Xss4m"}, "/a,/b,/tmp/k2.jks", "-Xss4m "),
    ],
)  # fmt: skip
def test_executors_keep_their_own_files_and_options(before, files, options):
    properties = dict(before)
    system = SimpleNamespace(getProperty=properties.get, setProperty=properties.__setitem__)
    jvm = SimpleNamespace(java=SimpleNamespace(lang=SimpleNamespace(System=system)))
    give_to_executors(jvm, "/tmp/k2.jks", "k2.jks")
    assert properties == {
        "spark.files": files,
        "spark.executor.extraJavaOptions": (
            f"{options}-Djavax.net.ssl.trustStore=k2.jks -Djavax.net.ssl.trustStoreType=JKS"
        ),
    }
