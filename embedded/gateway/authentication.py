"""Who may use the gateway: anyone, or the user ``default`` with the password kept in a file."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from embedded.gateway.errors import AUTHENTICATION_FAILED, gateway_error

USER = "default"


@dataclass(frozen=True)
class Authentication:
    """The check both protocols make.

    :param password: what the user ``default`` must present; ``None`` accepts everyone as sent.
    """

    password: str | None = None

    def check(self, user: str, password: str) -> None:
        """Accept or refuse a client.

        :raises GatewayError: code 516, the same for a wrong user and a wrong password.
        """
        if self.password is None:
            return
        # Both are compared, in constant time, so that timing tells nothing about either.
        is_user = hmac.compare_digest(user.encode(), USER.encode())
        is_password = hmac.compare_digest(password.encode(), self.password.encode())
        if not (is_user and is_password):
            raise gateway_error(
                AUTHENTICATION_FAILED,
                f"{user}: Authentication failed: password is incorrect, or there is no user with such name.",
            )
