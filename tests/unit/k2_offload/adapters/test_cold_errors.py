"""What pyiceberg and the storage say, as they said it, and what it means."""

from __future__ import annotations

import pytest
from pyiceberg.exceptions import ServerError

from k2_offload.adapters.cold_errors import told
from k2_offload.core.errors import OffloadError, Refused, Unreachable, is_store_refusal


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (OSError("AWS Error ACCESS_DENIED during HeadObject operation: No response body."), Refused),
        (OSError("AWS Error NO_SUCH_BUCKET during PutObject operation: The specified bucket does not exist"), Refused),
        (OSError("AWS Error UNKNOWN (HTTP status 404) during PutObject: XAdminUserNotFound"), Refused),
        (OSError("AWS Error UNKNOWN (HTTP status 400) during PutObject: InvalidAccessKeyId"), Refused),
        (ServerError("NoSuchBucketException: The specified bucket does not exist (Status Code: 404)"), Refused),
        (OSError("AWS Error UNKNOWN (HTTP status 429) during PutObject: TooManyRequests"), Unreachable),
        (OSError("AWS Error NETWORK_CONNECTION during HeadObject operation: curlCode: 7"), Unreachable),
        (OSError("AWS Error UNKNOWN (HTTP status 503) during PutObject: SlowDown"), Unreachable),
        (ServerError("NullPointerException: null"), Unreachable),
    ],
    ids=lambda each: getattr(each, "__name__", str(each)[10:40]),
)
def test_what_the_storage_refuses_is_not_taken_for_away(error, means):
    with pytest.raises(OffloadError, match="'lake'") as raised, told("lake", None, list):
        raise error
    assert type(raised.value) is means


@pytest.mark.parametrize(
    "words",
    [
        "Message: The specified bucket does not exist., bucket no-such-bucket, key a.parquet, object size 504.",
        "Failed to check existence of key a in bucket k2-lake: No response body.. HTTP response code: 403, error type: "
        "ACCESS_DENIED. Please check your AWS credentials and permissions.",
    ],
    ids=["bucket", "keys"],
)
def test_what_the_store_refuses_clickhouse_is_a_refusal(words):
    assert is_store_refusal(f"DB::Exception: {words} (S3_ERROR)")
