"""Errors travel: a Spark executor sends them to the driver."""

from __future__ import annotations

import pickle

import pytest

from k2_offload.core.errors import (
    AuditFailed,
    Busy,
    Overloaded,
    Refused,
    StoreNotTrusted,
    Unreachable,
    UnreadableTable,
    certificate_problem,
    is_certificate_refusal,
)


@pytest.mark.parametrize(
    "error",
    [
        AuditFailed("t: 1"),
        Unreachable("ClickHouse", "c", "gone"),
        Refused("ClickHouse", "c", "no"),
        Busy("ledger"),
        StoreNotTrusted("certificate verify failed"),
        Overloaded(241, "memory"),
        UnreadableTable("t", "c", "missing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_its_journey(error):
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert (type(arrived), str(arrived)) == (type(error), str(error))


EXPIRED = "its certificate has expired"
OTHER_HOST = "its certificate is for another host"
UNKNOWN = "its certificate is of an unknown authority"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)", UNKNOWN),
        ("certificate verify failed: self-signed certificate in certificate chain (_ssl.c:1006)", UNKNOWN),
        ("certificate verify failed: certificate has expired (_ssl.c:1006)", EXPIRED),
        ("certificate verify failed: IP address mismatch, certificate is not valid for '127.0.0.1'.", OTHER_HOST),
        ("certificate verify failed: Hostname mismatch, certificate is not valid for 'h'.", OTHER_HOST),
        ("curlCode: 60, SSL peer certificate …; Details: SSL certificate OpenSSL verify result: unable to get local "
         "issuer certificate (20)", UNKNOWN),
        ("curlCode: 60, SSL peer certificate …; … OpenSSL verify result: certificate has expired (10)", EXPIRED),
        ("curlCode: 60, SSL peer certificate …; Details: SSL: no alternative certificate subject name matches target "
         "IPv4 address '127.0.0.1'", OTHER_HOST),
        ("curlCode: 77, Problem with the SSL CA cert (path? access rights?)", ""),
        ("SdkClientException: … PKIX path building failed: SunCertPathBuilderException: unable to find valid "
         "certification path to requested target", UNKNOWN),
        ("RESTException: …: SunCertPathBuilderException: unable to find valid certification path to requested target",
         UNKNOWN),
        ("CertificateException: No X509TrustManager implementation available", UNKNOWN),
        ("PKIX path validation failed: validity check failed: CertificateExpiredException: NotAfter: …", EXPIRED),
        ("SSLPeerUnverifiedException: Certificate for <127.0.0.1> doesn't match any of the subject …", OTHER_HOST),
        ('server certificate for "elsewhere" (certificate) does not match host name "h"', OTHER_HOST),
        ("SSL Exception: error:0A000086:SSL routines::certificate verify failed", ""),
        ("Certificate validation error: Unacceptable certificate from 127.0.0.1", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_certificate_reads_the_same_whoever_says_it(words, problem):
    assert is_certificate_refusal(words)
    assert certificate_problem(words) == problem
    assert f"'c': {problem}" in str(Refused("The store", "c", words))
