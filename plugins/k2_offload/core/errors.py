"""What can go wrong, said so that the reader knows what is safe and what to run next."""

from __future__ import annotations

import copyreg
import re
from typing import Any

from k2_offload.core.text import without_secrets


class OffloadError(Exception):
    """An expected failure: its message is meant for the operator and needs no stack trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        # Spark brings errors back from its executors; as exceptions are pickled, __init__ would get the message.
        return copyreg.__newobj__, (type(self), *self.args)  # type: ignore[attr-defined]


class NotBegun(OffloadError):
    """The cold table holds no window yet, so that there is nothing to do."""


class InvalidTablesFile(OffloadError):
    """``tables.yaml`` does not describe a usable set of tables."""


class InvalidCondition(OffloadError):
    """What was asked of a command is none: a condition of ``k2 status --fail-on``, a day that has not begun."""


class UnsupportedType(OffloadError):
    """A column's ClickHouse type has no faithful Iceberg type."""


class InvalidSource(OffloadError):
    """The source table or one of its columns is missing or unfit (a timestamp that is not a time, a NULL timestamp)."""


class Unreachable(OffloadError):
    """ClickHouse, Postgres, the catalog or the storage does not answer.

    :param service: which of them, as a person would say it
    :param connection_id: the Airflow connection that points to it
    :param reason: the driver's own words; what may be a secret in their addresses is taken out
    :param then: the command that asks it again
    """

    def __init__(self, service: str, connection_id: str, reason: str, then: str = "k2 validate") -> None:
        super().__init__(
            f"{service} is not reachable through Airflow connection '{connection_id}': {without_secrets(reason)}. "
            "No row was moved and none is lost: the next attempt resumes the same window. "
            f"Check the service and `airflow connections get {connection_id}`, then run `{then}`."
        )


class Overloaded(OffloadError):
    """ClickHouse answers, and cannot do a query at the moment: too little memory, too many queries, too little time.

    :param reason: the server's own words
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(
            f"ClickHouse could not do a query now (code {code}): {reason.rstrip('.')}. Nothing was moved and no row is "
            "lost: the next run tries again. If it goes on, give ClickHouse's user more memory, time or queries at "
            "once, or make max_window_rows smaller."
        )


class Busy(OffloadError):
    """Another run holds a table in the ledger, and has been waited for.

    :param connection_id: the Airflow connection of the ledger
    """

    def __init__(self, connection_id: str) -> None:
        super().__init__(
            f"Another run has held this table in the ledger (Airflow connection '{connection_id}') for a minute. "
            "Nothing was recorded and no row is lost: the next attempt resumes the same window. If it goes on, look "
            "for a run that hangs, or for a session that is idle in a transaction in Postgres' pg_stat_activity.",
        )


class OldLedger(OffloadError):
    """The ledger's schema is that of an older version, and who only looks does not change it.

    :param version: the first migration that is missing
    """

    def __init__(self, version: int) -> None:
        super().__init__(
            f"The ledger has the schema of an older version (migration {version:04} is missing), so it was not read. "
            "Nothing was changed and no row is affected. The next cycle brings it up to date; `k2 run` does so now."
        )


class UnreadableTable(OffloadError):
    """A cold table's own metadata or files are missing, forbidden or no Iceberg table; its catalog answers.

    :param table: its name in the table file
    :param connection_id: the Airflow connection of the catalog
    :param reason: the library's own words, without secrets
    """

    def __init__(self, table: str, connection_id: str, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"{table}: its cold table cannot be read or written through Airflow connection '{connection_id}': "
            f"{reason.rstrip('.')}. Nothing was moved and no row is lost; other tables go on. Look whether the file is "
            f"there and the user may read it; put it back, or run `k2 register {table}`: it finds the newest metadata "
            "file that is there. Then run `k2 validate`."
        )


class StoreFailed(Unreachable):
    """ClickHouse gets no answer from the lake's object store.

    :param reason: ClickHouse's own words
    """

    def __init__(self, reason: str) -> None:
        OffloadError.__init__(
            self, f"ClickHouse does not reach the lake's object store: {reason.rstrip('.')}. {_STORE}"
        )


class NoAirflowDatabase(Unreachable):
    """Airflow's own database does not answer.

    :param reason: the driver's own words; what may be a secret in their addresses is taken out
    """

    def __init__(self, reason: str) -> None:
        OffloadError.__init__(
            self,
            f"Airflow's database does not answer: {without_secrets(reason)}. No row was moved and none is lost. "
            "Start it, or correct Airflow's setting `sql_alchemy_conn`; then run the command again.",
        )


class AuditFailed(OffloadError):
    """The rows staged for a window are not the rows ClickHouse holds in it. Nothing was published."""


class StaleWindow(OffloadError):
    """The cold table has moved on since this window was planned. Nothing was published by this attempt."""


class OtherRun(StaleWindow):
    """Another run is at work on the same. Nothing was changed."""


class DamagedTable(OffloadError):
    """The cold table is not the one the ledger knows (recreated, rolled back): a person has to decide."""


class ChangedTable(OffloadError):
    """The table file, or the source, no longer goes with what the cold table holds. Nothing was moved."""


class ExpiredRows(OffloadError):
    """Rows may have expired in the warm tier before they were moved: a person has to accept that."""


class ReplicaBehind(OffloadError):
    """The server that was asked has not all rows of a replicated table yet. Nothing was moved."""


class ConfigurationError(OffloadError):
    """A setting or connection is missing or contradicts another."""


def wrong_setting(name: str, what: str) -> ConfigurationError:
    """The error of a setting that means nothing.

    :param what: what it is, and what it should be
    """
    return ConfigurationError(
        f"[k2_offload] {name} is {what}. Nothing was moved and no row is lost. Correct it in airflow.cfg or "
        f"AIRFLOW__K2_OFFLOAD__{name.upper()}; then run `k2 validate`."
    )


class StoreRefused(ConfigurationError):
    """The lake's object store answers ClickHouse, and does not let it in or has no such bucket.

    :param reason: ClickHouse's own words
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"The lake's object store refuses ClickHouse: {reason.rstrip('.')}. {_STORE}")


class StoreNotTrusted(ConfigurationError):
    """ClickHouse does not accept the certificate of the lake's object store.

    :param reason: ClickHouse's own words, which do not always say what is wrong with it
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"ClickHouse does not accept the certificate of the lake's object store: {reason.rstrip('.')}. ClickHouse "
            "trusts the authorities of its own configuration (openSSL.client.caConfig), whatever 'ca_certs' of the "
            "catalog's connection names. No row was moved and none is lost. Correct that, or the host in the named "
            "collection that [k2_offload] lake_collection names; then run `k2 validate`."
        )


class WrittenElsewhere(ConfigurationError):
    """ClickHouse has written a file, and Iceberg, whose storage answers, does not see it.

    :param uri: the file, as both know it
    """

    def __init__(self, uri: str) -> None:
        super().__init__(
            f"ClickHouse writes somewhere else than the catalog's warehouse is: it wrote {uri}, and Iceberg does not "
            "see it. Is the named collection's bucket the warehouse's (where the warehouse is a folder, do both share "
            "it)? Nothing was published and no row is lost. Correct the url of the named collection that [k2_offload] "
            "lake_collection names, remove the file where ClickHouse wrote it, then run `k2 validate`."
        )


class Refused(ConfigurationError):
    """A service answers, and does not let this connection in; trying again cannot help.

    :param service: which of them, as a person would say it
    :param connection_id: the Airflow connection that points to it
    :param reason: the service's own words; what may be a secret in their addresses is taken out
    :param then: the command that asks it again
    """

    def __init__(self, service: str, connection_id: str, reason: str, then: str = "k2 validate") -> None:
        reason = without_secrets(reason)
        problem = certificate_problem(reason)
        told = f"{problem} ({reason.rstrip('.')})" if problem else reason.rstrip(".")
        super().__init__(
            f"{service} refuses Airflow connection '{connection_id}': {told}. "
            "Nothing was moved and no row is lost. Correct its user, password or database (for a storage: its keys and "
            f"bucket; for TLS: host and authorities), or grant the user what it needs; then run `{then}`."
        )


_STORE = (
    "No row was moved and none is lost: the next attempt exports the window again. Check the store, and the address "
    "and keys in the named collection that [k2_offload] lake_collection names; then run `k2 validate`."
)

_STORE_REFUSALS = (
    "AccessDenied",
    "Access Denied",
    "Forbidden",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "NoSuchBucket",
    "bucket does not exist",
    "NoSuchKey",
    "Status Code: 403",
    "HTTP response code: 403",
)


def is_store_refusal(words: str) -> bool:
    """Whether an object store refused a request, rather than being down; in its own words, whoever passes them on."""
    return any(refusal in words for refusal in _STORE_REFUSALS)


_CERTIFICATE_REFUSALS = re.compile(
    "certificate verify failed|CERTIFICATE_VERIFY_FAILED|does not match host name|root certificate file|"
    "PKIX path|unable to find valid certification path|hostnameverifier|SSLPeerUnverifiedException|"
    "CertificateException|CertificateExpiredException|"
    "SSL peer certificate|SSL CA cert|Certificate validation error"
)


def is_certificate_refusal(words: str) -> bool:
    """Whether a service's certificate was not accepted, in the words of OpenSSL, curl, libpq, ClickHouse or Java."""
    return bool(_CERTIFICATE_REFUSALS.search(words))


_CERTIFICATE_PROBLEMS = {
    "its certificate has expired": "certificate has expired|CertificateExpiredException",
    "its certificate is for another host": (
        "(?:Hostname|IP address) mismatch|no alternative certificate subject name|SSLPeerUnverifiedException|"
        "does not match host name|hostnameverifier|No subject alternative"
    ),
    "its certificate is of an unknown authority": (
        "unable to get (?:local )?issuer certificate|self[- ]signed certificate|PKIX path building|"
        "unable to find valid certification path|"
        "No X509TrustManager implementation"
    ),
}


def certificate_problem(words: str) -> str:
    """What is wrong with a certificate, the same whoever says it; empty if the words do not tell."""
    return next((told for told, pattern in _CERTIFICATE_PROBLEMS.items() if re.search(pattern, words)), "")
