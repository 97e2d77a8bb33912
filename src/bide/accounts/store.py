"""Who may call: a credential with its application, and the first ones of a new gateway. Times are milliseconds.

The same tables from the side of those who manage them: `bide.accounts.users`, `.applications`, `.credentials`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bide.accounts.limits import LIFTED
from bide.accounts.tokens import hashed, same
from bide.clock import Clock
from bide.credits import ledger
from bide.db import Database, Row, Tx

OWNER = "owner"
"""The user that the first start creates."""

GLOBAL, INDIVIDUAL = "Global", "Individual"
"""Scopes of an application: every service, or one."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A credential with its application: all that a request must know of who sends it."""

    credential_id: str
    application_id: str
    user_id: str
    service: str | None
    """The one service the application is for; None: every service."""
    disabled: bool
    expires_at: int | None
    token_hash: str
    general_id: str | None = None
    """The application that pays what its own balance lacks, where that is allowed."""
    cap: int | None = None
    """Micro-credits the credential may spend in all; None: no cap."""
    host: str | None = None
    """The one host it may be used at; None: any."""
    api_ids: frozenset[str] = frozenset()
    """The operations it may be used for; empty: all."""
    limits: Mapping[str, Mapping[str, float]] | None = None
    """Limits other than the catalogue's (`bide.accounts.limits`); None: those."""
    retention_ms: int | None = None
    """How long finished tasks are kept; None: as the settings say."""


_CALLER = (
    "SELECT c.token_hash, c.id, c.application_id, c.user_id, a.scope, a.service, c.disabled, a.disabled,"
    " c.expires_at, CASE WHEN a.allow_consume_global = 1 AND a.scope = 'Individual'"
    " THEN (SELECT min(g.id) FROM applications g WHERE g.user_id = a.user_id AND g.scope = 'Global'"
    " AND g.disabled = 0) END,"
    " c.limited_amount, c.host, c.allowed_api_ids, a.limits, a.retention_ms"
    " FROM credentials c JOIN applications a ON a.id = c.application_id"
    " WHERE c.token_hash = ANY($1) AND c.revoked_at IS NULL"
)


async def caller(db: Database, token: str) -> Caller | None:
    """Who has this token; None when it is unknown or revoked."""
    wanted = hashed(token)
    row = await db.load(_CALLER, wanted)
    if row is None or not same(row[0], wanted):
        return None
    return Caller(
        credential_id=row[1], application_id=row[2], user_id=row[3],
        service=None if row[4] == GLOBAL else row[5], disabled=bool(row[6] or row[7]), expires_at=row[8],
        token_hash=row[0], general_id=row[9], cap=row[10], host=row[11],
        api_ids=frozenset(_json(row[12]) or ()), limits=_json(row[13]), retention_ms=row[14],
    )  # fmt: skip


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


async def lock(tx: Tx, application_ids: list[str]) -> set[str]:
    """Until the commit nobody else takes from the balances of these applications, nor begins a task for them. Answers
    those that are switched off: whoever was let in a moment ago may not know.

    One order for everybody, so that two who lock several never wait for each other.
    """
    rows = await tx.rows(
        "SELECT id, disabled FROM applications WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", application_ids
    )
    return {row[0] for row in rows if row[1]}


async def bootstrap(tx: Tx, clock: Clock, token: str, credit: int) -> bool:
    """The first user, application and credential. Answers False when there is an owner already."""
    if not await ensure_owner(tx, clock, credit):
        return False
    row = await default_application(tx)
    if row is not None:
        await add_credential(tx, clock, row[0], row[1], "default", token)
    return True


async def ensure_owner(tx: Tx, clock: Clock, credit: int) -> bool:
    """The first user with an application of that many micro-credits and without limits, but without a credential.

    Answers False when there is an owner already. Several nodes may start at once: the unique name of the owner lets
    one of them win.
    """
    now = clock.now_ms()
    user_id, application_id = clock.new_id(now), clock.new_id(now)
    if not await tx.rows(
        "INSERT INTO users (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING RETURNING id",
        user_id, OWNER, now,
    ):  # fmt: skip
        return False
    await tx.run(
        "INSERT INTO applications (id, user_id, name, scope, limits, created_at, updated_at)"
        " VALUES ($1, $2, 'default', $3, $4, $5, $5)",
        application_id, user_id, GLOBAL, json.dumps(LIFTED), now,
    )  # fmt: skip
    await ledger.grant(tx, clock.new_id(now), application_id, credit, now, "the first credit")
    return True


async def ensure_credential(tx: Tx, clock: Clock, token: str) -> None:
    """Sees to it that the bootstrap token works: adds it to the owner's first application if it is not there."""
    if await tx.rows("SELECT 1 FROM credentials WHERE token_hash = $1", hashed(token)):
        return  # also when it was revoked: a revoked token stays so
    row = await default_application(tx)
    if row is not None:
        await add_credential(tx, clock, row[0], row[1], "bootstrap", token)


async def default_application(tx: Tx) -> Row | None:
    """(id, user id) of the owner's oldest application."""
    rows = await tx.rows(
        "SELECT a.id, a.user_id FROM applications a JOIN users u ON u.id = a.user_id WHERE u.name = $1"
        " ORDER BY a.id LIMIT 1", OWNER,
    )  # fmt: skip
    return rows[0] if rows else None


async def add_credential(
    tx: Tx, clock: Clock, application_id: str, user_id: str, name: str, token: str, expires_at: int | None = None
) -> str:
    """Inserts a credential and answers its id. The token itself is not kept."""
    now = clock.now_ms()
    credential_id = clock.new_id(now)
    await tx.run(
        "INSERT INTO credentials (id, application_id, user_id, name, token_hash, token_end, expires_at, created_at,"
        " updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (token_hash) DO NOTHING",
        credential_id, application_id, user_id, name, hashed(token), token[-4:], expires_at, now,
    )  # fmt: skip
    return credential_id
