"""The tables of who may: `users`, `applications`, `credentials`. Times are milliseconds."""

from dataclasses import dataclass

from bide.accounts.tokens import hashed, same
from bide.clock import Clock
from bide.db import Database, Row, Tx

OWNER = "owner"
"""The user that the first start creates."""


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


_CALLER = (
    "SELECT c.token_hash, c.id, c.application_id, c.user_id, a.scope, a.service, c.disabled, a.disabled, c.expires_at"
    " FROM credentials c JOIN applications a ON a.id = c.application_id"
    " WHERE c.token_hash = ANY($1) AND c.revoked_at IS NULL"
)


async def caller(db: Database, token: str) -> Caller | None:
    """Who has this token; None when it is unknown or revoked."""
    wanted = hashed(token)
    row = await db.load(_CALLER, wanted)
    if row is None or not same(row[0], wanted):
        return None
    service = None if row[4] == "Global" else row[5]
    return Caller(row[1], row[2], row[3], service, bool(row[6] or row[7]), row[8], row[0])


async def bootstrap(tx: Tx, clock: Clock, token: str) -> bool:
    """The first user, application and credential. Answers False when there is an owner already."""
    if not await ensure_owner(tx, clock):
        return False
    row = await default_application(tx)
    if row is not None:
        await add_credential(tx, clock, row[0], row[1], "default", token)
    return True


async def ensure_owner(tx: Tx, clock: Clock) -> bool:
    """The first user with an application, without a credential. Answers False when there is an owner already.

    Several nodes may start at once: the unique name of the owner lets one of them win.
    """
    now = clock.now_ms()
    user_id, application_id = clock.new_id(now), clock.new_id(now)
    if not await tx.rows(
        "INSERT INTO users (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING RETURNING id",
        user_id, OWNER, now,
    ):  # fmt: skip
        return False
    await tx.run(
        "INSERT INTO applications (id, user_id, name, scope, created_at) VALUES ($1, $2, 'default', 'Global', $3)",
        application_id, user_id, now,
    )  # fmt: skip
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
        "INSERT INTO credentials (id, application_id, user_id, name, token_hash, token_end, expires_at, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (token_hash) DO NOTHING",
        credential_id, application_id, user_id, name, hashed(token), token[-4:], expires_at, now,
    )  # fmt: skip
    return credential_id


async def revoke(tx: Tx, at_ms: int, id_or_token: str) -> str | None:
    """Revokes a credential named by its id or by its token, and answers its id. None when there is none, or no
    longer."""
    rows = await tx.rows(
        "UPDATE credentials SET revoked_at = $1 WHERE (id = $2 OR token_hash = $3) AND revoked_at IS NULL"
        " RETURNING id", at_ms, id_or_token, hashed(id_or_token),
    )  # fmt: skip
    return rows[0][0] if rows else None


async def credentials(db: Database) -> list[Row]:
    """(id, name, token end, application id, user name, created, expires, revoked, disabled), oldest first."""
    return await db.rows(
        "SELECT c.id, c.name, c.token_end, c.application_id, u.name, c.created_at, c.expires_at, c.revoked_at,"
        " c.disabled FROM credentials c JOIN users u ON u.id = c.user_id ORDER BY c.id"
    )
