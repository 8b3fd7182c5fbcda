from __future__ import annotations

import pytest

from embedded.gateway.authentication import Authentication
from embedded.gateway.errors import GatewayError


def test_without_a_password_everyone_is_accepted() -> None:
    Authentication().check("anyone", "anything")


def test_the_password_opens() -> None:
    Authentication("pässword").check("default", "pässword")


@pytest.mark.parametrize(("user", "password"), [("default", ""), ("default", "Secret"), ("admin", "secret"), ("", "")])
def test_anything_else_is_refused_with_code_516(user: str, password: str) -> None:
    with pytest.raises(GatewayError) as raised:
        Authentication("secret").check(user, password)
    assert raised.value.code == 516
    assert "secret" not in raised.value.message
