"""What the Java library's exceptions mean, by their names and words as real servers were seen to cause them."""

from __future__ import annotations

import pytest

from k2_offload.core.errors import ConfigurationError, Refused, Unreachable
from offload_job.java_errors import Thrown, certificate_words, first_line, translate

WRONG_KEYS = Thrown("S3Exception", "Forbidden (Service: S3, Status Code: 403, Request ID: 17F0) (SDK Attempt Count: 1)")
NO_BUCKET = Thrown("NoSuchBucketException", "The specified bucket does not exist (Service: S3, Status Code: 404)")
NO_KEY = Thrown("NoSuchKeyException", "The specified key does not exist. (Service: S3, Status Code: 404)")
NO_FILE_IO = Thrown(
    "IllegalArgumentException",
    "Cannot initialize FileIO implementation org.apache.iceberg.aws.s3.S3FileIO: Cannot find constructor",
)


@pytest.mark.parametrize(
    "chain",
    [
        [WRONG_KEYS],
        [Thrown("S3Exception", "The AWS Access Key Id does not exist (Service: S3, Status Code: 403)")],
        [Thrown("S3Exception", "null (Service: S3, Status Code: 403, Request ID: null)")],
        [Thrown("UncheckedIOException", "Failed to get file"), WRONG_KEYS],
        [NO_BUCKET],
        [Thrown("NotFoundException", "Location does not exist: s3://lake/a"), NO_KEY],
        [Thrown("ServiceFailureException", f"Server error: {NO_BUCKET}")],
        [Thrown("RESTException", "Unable to process: software.amazon.awssdk.…NoSuchBucketException: The specified")],
        [Thrown("ForbiddenException", "Forbidden: not yours")],
        [Thrown("NotAuthorizedException", "Not authorized: no token")],
        [Thrown("UncheckedSQLException", "Failed"), Thrown("PSQLException", "permission denied", "42501")],
        [
            Thrown("UncheckedSQLException", "Failed"),
            Thrown("PSQLException", "SSL error: PKIX path building failed", "08006"),
        ],
        [Thrown("PSQLException", "The hostname h could not be verified by hostnameverifier P.", "08006")],
        [Thrown("RESTException", "Error occurred"), Thrown("SSLHandshakeException", "PKIX path validation failed")],
        [Thrown("RESTException", "Error occurred"), Thrown("SSLPeerUnverifiedException", "Certificate for <h> …")],
    ],
)
def test_a_refusal_is_not_tried_again_and_names_the_connection(chain):
    error = translate(chain, "k2_iceberg")
    assert isinstance(error, Refused)
    assert "refuses Airflow connection 'k2_iceberg'" in str(error)
    assert chain[0].kind in str(error)
    assert "no row is lost" in str(error)
    assert "k2 validate" in str(error)


@pytest.mark.parametrize(
    "chain",
    [
        [NO_FILE_IO, Thrown("NoSuchMethodException", "Missing S3FileIO [java.lang.ClassNotFoundException]")],
        [Thrown("NoClassDefFoundError", "software/amazon/awssdk/core/exception/SdkException")],
        [Thrown("SdkClientException", "Unable to load region from any of the providers in the chain")],
        [Thrown("SdkClientException", "Unable to load credentials from any of the providers in the chain")],
    ],
)
def test_what_cannot_start_is_said_with_the_setting_that_may_be_wrong(chain):
    error = translate(chain, "k2_iceberg")
    assert isinstance(error, ConfigurationError)
    assert "as Airflow connection 'k2_iceberg' describes it" in str(error)
    assert "spark_jars" in str(error)


@pytest.mark.parametrize(
    "chain",
    [
        [Thrown("S3Exception", "Please reduce your request rate. (Service: S3, Status Code: 503)")],
        [Thrown("ServiceFailureException", "Server error: null")],
        [Thrown("NotFoundException", "Failed to open"), Thrown("FileNotFoundException", "/lake/a (No such file)")],
        [Thrown("RESTException", "Error"), Thrown("SocketTimeoutException", "Read timed out")],
        [Thrown("UncheckedSQLException", "Failed"), Thrown("PSQLException", "The connection attempt failed.", "08001")],
    ],
)
def test_what_may_pass_is_tried_again(chain):
    error = translate(chain, "k2_iceberg")
    assert isinstance(error, Unreachable)
    assert str(chain[-1]) in str(error)


TRACE = """\
An error occurred while calling o141.append.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 0.0 failed 1 times
\tat org.apache.iceberg.io.RollingFileWriter.closeCurrentWriter(RollingFileWriter.java:128)
Caused by: {service}: Unable to execute HTTP request: PKIX path validation failed: validity check failed
\tat java.base/sun.security.provider.certpath.CertificateException.nothing(Frame.java:1)
\t... 24 more
Caused by: java.security.cert.CertPathValidatorException: validity check failed
Caused by: java.security.cert.CertificateExpiredException: NotAfter: Fri Nov 27 09:24:21 UTC 2026
"""


def test_what_spark_says_of_a_certificate_is_found_in_its_trace():
    words = certificate_words(TRACE.format(service="software.amazon.awssdk.core.exception.SdkClientException"))
    assert words == (
        "software.amazon.awssdk.core.exception.SdkClientException: Unable to execute HTTP request: PKIX path "
        "validation failed: validity check failed: java.security.cert.CertificateExpiredException: "
        "NotAfter: Fri Nov 27 09:24:21 UTC 2026"
    )
    assert certificate_words("An error occurred\n: SparkException: failed\n\tat sun.CertificateException.x") == ""


def test_of_pages_of_words_the_first_line_is_told_and_no_secret():
    pages = "[FAILED_READ_FILE] s3://lake/a.parquet: https://me:key@store/a?signature=abc\n\tat org.apache.spark"
    assert first_line(RuntimeError(pages)) == "[FAILED_READ_FILE] s3://lake/a.parquet: https://…@store/a?…"
    assert first_line(RuntimeError()) == "RuntimeError"
