from __future__ import annotations

import pytest

from embedded.gateway.errors import from_engine, http_status


def test_the_code_the_name_and_the_message_come_from_the_engines_text() -> None:
    error = from_engine(
        RuntimeError("Streaming query failed: Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE)")
    )
    assert (error.code, error.name) == (60, "UNKNOWN_TABLE")
    assert error.message == "DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE)"


def test_a_text_without_a_code_is_an_unknown_exception() -> None:
    error = from_engine(RuntimeError("no idea"))
    assert (error.code, error.name) == (1002, "UNKNOWN_EXCEPTION")
    assert "no idea" in error.message


@pytest.mark.parametrize(("code", "status"), [(62, 400), (516, 403), (60, 404), (48, 501), (241, 500)])
def test_http_status(code: int, status: int) -> None:
    assert http_status(code) == status
