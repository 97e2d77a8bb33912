"""The table `credentials` from the side of those who manage it. Of a token only a hash and its end are kept.

A running gateway keeps what it knows of a token for at most two seconds (`bide.api.auth`). Times are milliseconds,
amounts micro-credits.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bide.accounts import users
from bide.accounts.tokens import hashed
from bide.clock import Clock
from bide.db import Database, Row, Tx
from bide.errors import BadRequest

METADATA_BYTES_MAX = 4_096
API_IDS_MAX = 1_000
SHOWN_MAX = 100
"""Credentials that are shown with an application."""
WORKING_MAX = 1_000
"""Credentials of an application that its owner may have at once. A superuser may make more."""

CHANGEABLE = frozenset({
    "name", "limited_amount", "expires_at", "host", "allowed_api_ids", "metadata", "disabled",
})  # fmt: skip
_JSON = frozenset({"allowed_api_ids", "metadata"})
_COLUMNS = (
    "id, application_id, user_id, name, token_end, limited_amount, host, allowed_api_ids, metadata, disabled,"
    " expires_at, revoked_at, created_at, updated_at"
)
_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]")


@dataclass(frozen=True, slots=True)
class Credential:
    id: str
    application_id: str
    user_id: str
    name: str
    token_end: str
    """The last four characters of its token."""
    limited_amount: int | None
    """What it may spend in all; None: what the balance allows."""
    host: str | None
    allowed_api_ids: tuple[str, ...]
    """Empty: every operation."""
    metadata: Mapping[str, Any]
    disabled: bool
    expires_at: int | None
    revoked_at: int | None
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which credentials are looked for; None: not filtered by it."""

    user_id: str | None = None
    application_id: str | None = None
    host: str | None = None
    revoked: bool = False
    """Whether those that were revoked are listed too."""


# -- what may be set


def check_host(text: str) -> str:
    """The one host a credential works at, without port. Raises `BadRequest` with a sentence."""
    if not _HOST.fullmatch(host := text.lower()):
        raise BadRequest("`host` must be the name or the address of a host without port, such as api.example.com.")
    return host


def check_metadata(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The owner's own words about a credential. Raises `BadRequest` when they are too many."""
    if len(json.dumps(value)) > METADATA_BYTES_MAX:
        raise BadRequest(f"`metadata` must not have more than {METADATA_BYTES_MAX:,} bytes of JSON.")
    return value


def check_api_ids(value: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Operations a credential is for, each once. Raises `BadRequest` when one is not in the catalogue."""
    if len(value) > API_IDS_MAX:
        raise BadRequest(f"`allowed_api_ids` must not have more than {API_IDS_MAX:,} items.")
    for api_id in value:
        if api_id not in known:
            raise BadRequest(f"`allowed_api_ids`: there is no operation with the id {api_id[:80]!r}.")
    return tuple(dict.fromkeys(value))


# -- writes


async def create(
    tx: Tx, clock: Clock, application_id: str, user_id: str | None, token: str, about: Mapping[str, Any]
) -> Credential | None:
    """A credential of an application (of one user's if given); `about` has columns of `CHANGEABLE`, `name` at least.

    None: there is no such application, or its user was erased. Raises `BadRequest` when a user has too many.
    """
    assert about.keys() <= CHANGEABLE
    mine, args = ("", []) if user_id is None else (" AND user_id = $2", [user_id])
    owner = await tx.rows(f"SELECT user_id FROM applications WHERE id = $1{mine}", application_id, *args)
    if not owner or await users.lock(tx, owner[0][0]) is None:
        return None
    if user_id is not None and await _working(tx, application_id) >= WORKING_MAX:
        raise BadRequest(f"An application may have {WORKING_MAX:,} credentials: revoke some first.")
    now = clock.now_ms()
    values = {
        "id": clock.new_id(now), "application_id": application_id, "user_id": owner[0][0],
        "token_hash": hashed(token), "token_end": token[-4:], "created_at": now, "updated_at": now,
        **{name: _column(name, value) for name, value in about.items()},
    }  # fmt: skip
    marks = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    rows = await tx.rows(
        f"INSERT INTO credentials ({', '.join(values)}) VALUES ({marks}) RETURNING {_COLUMNS}", *values.values()
    )
    return _credential(rows[0])


async def _working(tx: Tx, application_id: str) -> int:
    """How many of an application were not revoked; no more than `WORKING_MAX` are counted."""
    rows = await tx.rows(
        "SELECT count(*) FROM (SELECT 1 FROM credentials WHERE application_id = $1 AND revoked_at IS NULL LIMIT $2)"
        " AS working", application_id, WORKING_MAX,
    )  # fmt: skip
    return int(rows[0][0])


async def change(
    tx: Tx, at_ms: int, credential_id: str, user_id: str | None, changes: Mapping[str, Any]
) -> Credential | None:
    """Sets some columns (`CHANGEABLE`; values as `Credential` has them). None: there is none, or no longer."""
    assert changes.keys() <= CHANGEABLE
    return await _update(tx, at_ms, credential_id, user_id, {k: _column(k, v) for k, v in changes.items()})


async def rotate(tx: Tx, at_ms: int, credential_id: str, user_id: str | None, token: str) -> Credential | None:
    """Gives a credential another token; the old one is unknown from now on. None: there is none, or no longer."""
    fresh = {"token_hash": hashed(token), "token_end": token[-4:]}
    return await _update(tx, at_ms, credential_id, user_id, fresh)


async def revoke(tx: Tx, at_ms: int, credential_id: str, user_id: str | None = None) -> bool:
    """Ends a credential; its row stays. False when there is none, or no longer."""
    return await _update(tx, at_ms, credential_id, user_id, {"revoked_at": at_ms}) is not None


async def revoke_named(tx: Tx, at_ms: int, id_or_token: str) -> str | None:
    """Ends a credential named by its id or by its token, and answers its id. None when there is none, or no
    longer."""
    rows = await tx.rows(
        "UPDATE credentials SET revoked_at = $1, updated_at = $1 WHERE (id = $2 OR token_hash = $3)"
        " AND revoked_at IS NULL RETURNING id", at_ms, id_or_token, hashed(id_or_token),
    )  # fmt: skip
    return rows[0][0] if rows else None


async def _update(
    tx: Tx, at_ms: int, credential_id: str, user_id: str | None, values: Mapping[str, Any]
) -> Credential | None:
    sets = "".join(f", {name} = ${at}" for at, name in enumerate(values, 3))
    mine, args = ("", []) if user_id is None else (f" AND user_id = ${len(values) + 3}", [user_id])
    rows = await tx.rows(
        f"UPDATE credentials SET updated_at = $1{sets} WHERE id = $2 AND revoked_at IS NULL{mine}"
        f" RETURNING {_COLUMNS}", at_ms, credential_id, *values.values(), *args,
    )  # fmt: skip
    return _credential(rows[0]) if rows else None


def _column(name: str, value: Any) -> Any:
    if name in _JSON:
        return json.dumps(value) if value else None
    return int(value) if isinstance(value, bool) else value


# -- reads


async def one(source: Database | Tx, credential_id: str, user_id: str | None = None) -> Credential | None:
    """The credential of an id, unless it was revoked; if a user is given, only one of theirs."""
    mine, args = ("", []) if user_id is None else (" AND user_id = $2", [user_id])
    rows = await source.rows(
        f"SELECT {_COLUMNS} FROM credentials WHERE id = $1 AND revoked_at IS NULL{mine}", credential_id, *args
    )
    return _credential(rows[0]) if rows else None


async def named(db: Database, id_or_token: str) -> Credential | None:
    """The credential of an id or of a token, revoked or not."""
    rows = await db.rows(
        f"SELECT {_COLUMNS} FROM credentials WHERE id = $1 OR token_hash = $2", id_or_token, hashed(id_or_token)
    )
    return _credential(rows[0]) if rows else None


async def listed(
    db: Database, wanted: Filter, limit: int, offset: int, *, ascending: bool = False
) -> tuple[int, list[Credential]]:
    """How many credentials match and one page of them, newest first."""
    count, page, args = queries(wanted, ascending=ascending)
    n = await db.scan(count, *args)
    return int(n[0][0]), [_credential(row) for row in await db.scan(page, *args, limit, offset)]


def queries(wanted: Filter, *, ascending: bool = False) -> tuple[str, str, list[Any]]:
    """The query of the total, that of a page (which takes limit and offset last), and what both take."""
    pairs = [
        ("application_id IN (SELECT id FROM applications WHERE user_id = {})", wanted.user_id),
        ("application_id = {}", wanted.application_id), ("host = {}", wanted.host),
    ]  # fmt: skip
    given = [(condition, value) for condition, value in pairs if value is not None]
    parts = [condition.format(f"${at}") for at, (condition, _) in enumerate(given, 1)]
    where = " AND ".join(parts if wanted.revoked else [*parts, "revoked_at IS NULL"])
    from_ = f"FROM credentials{' WHERE ' + where if where else ''}"
    at = len(given)
    page = (
        f"SELECT {_COLUMNS} {from_} ORDER BY id {'ASC' if ascending else 'DESC'} LIMIT ${at + 1} OFFSET ${at + 2}"
    )
    return f"SELECT count(*) {from_}", page, [value for _, value in given]


OF_APPLICATIONS = (
    f"SELECT {_COLUMNS} FROM"
    f" (SELECT {_COLUMNS}, row_number() OVER (PARTITION BY application_id ORDER BY id DESC) AS n FROM credentials"
    f" WHERE application_id = ANY($1) AND revoked_at IS NULL) AS c WHERE n <= {SHOWN_MAX}"
    " ORDER BY id DESC"
)


async def of_applications(db: Database, ids: list[str]) -> dict[str, list[Credential]]:
    """The credentials of some applications that were not revoked, newest first, at most `SHOWN_MAX` of each."""
    found: dict[str, list[Credential]] = {}
    for row in await db.scan(OF_APPLICATIONS, ids):
        found.setdefault(row[1], []).append(_credential(row))
    return found


def _credential(row: Row) -> Credential:
    allowed = () if row[7] is None else tuple(json.loads(row[7]))
    metadata = {} if row[8] is None else json.loads(row[8])
    return Credential(
        row[0], row[1], row[2], row[3], row[4], row[5], row[6], allowed, metadata, bool(row[9]), row[10], row[11],
        row[12], row[13],
    )  # fmt: skip
