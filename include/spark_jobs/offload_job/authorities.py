"""Makes Java trust the authorities of a file (PEM), and no others.

Java reads no such file as its trust store, and neither Iceberg's REST client nor AWS's takes one of its own: here the
file is made a trust store, before either opens its first connection.
"""

from __future__ import annotations

from typing import Any

from k2_offload.adapters.authorities import check_authorities
from k2_offload.core.connections import is_cluster
from offload_job.jvm import Jvm

_KIND = "JKS"
"""The kind that needs no password where there is nothing to hide."""


def trust(jvm: Jvm, connection_id: str, file: str) -> None:
    """Check all certificates that this virtual machine and Spark's executors are shown against a file.

    It is a matter of the whole virtual machine: ClickHouse's driver also goes by it, unless its connection has
    authorities of its own.

    :param connection_id: the Airflow connection whose ``ca_certs`` names the file
    :raises ConfigurationError: if it is no file with certificates
    """
    check_authorities(connection_id, file)
    store = _as_trust_store(jvm, file)
    path = str(store.getPath())
    _set(jvm, path)
    if is_cluster(str(jvm.java.lang.System.getProperty("spark.master"))):
        give_to_executors(jvm, path, str(store.getName()))


def _as_trust_store(jvm: Jvm, file: str) -> Any:
    factory = jvm.java.security.cert.CertificateFactory.getInstance("X.509")
    source = jvm.java.io.FileInputStream(file)
    certificates = factory.generateCertificates(source)
    source.close()
    store = jvm.java.security.KeyStore.getInstance(_KIND)
    store.load(None, None)
    for number, certificate in enumerate(certificates):
        store.setCertificateEntry(str(number), certificate)
    target = jvm.java.io.File.createTempFile("k2-authorities-", ".jks")
    target.deleteOnExit()
    output = jvm.java.io.FileOutputStream(target)
    no_password = jvm.java.lang.reflect.Array.newInstance(jvm.java.lang.Character.TYPE, 0)
    store.store(output, no_password)
    output.close()
    return target


def _set(jvm: Jvm, path: str) -> None:
    for key, value in _properties(path).items():
        jvm.java.lang.System.setProperty(key, value)


def _properties(path: str) -> dict[str, str]:
    return {"javax.net.ssl.trustStore": path, "javax.net.ssl.trustStoreType": _KIND}


def give_to_executors(jvm: Jvm, path: str, name: str) -> None:
    """Let Spark bring the file to each executor, whose folder it is looked for in; the context reads properties."""
    system = jvm.java.lang.System
    files = system.getProperty("spark.files")
    system.setProperty("spark.files", f"{files},{path}" if files else path)
    options = " ".join(f"-D{key}={value}" for key, value in _properties(name).items())
    others = system.getProperty("spark.executor.extraJavaOptions")
    system.setProperty("spark.executor.extraJavaOptions", f"{others} {options}" if others else options)
