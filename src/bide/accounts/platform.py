"""The table `platform_tokens`: who may manage. Such a token never works on the gateway, nor a credential here."""

from dataclasses import dataclass

from bide.accounts.tokens import PLATFORM_PREFIX, hashed, same
from bide.clock import Clock
from bide.db import Database, Row, Tx

FORM = f"{PLATFORM_PREFIX}v1-"
WORKING_MAX = 100
"""Tokens that a user may have made for itself at once. A superuser may make more for it."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Whose management token it is. A superuser sees and changes everything, anybody else its own account."""

    token_id: str
    user_id: str
    superuser: bool
    expires_at: int | None


def new_token(clock: Clock) -> str:
    """`platform-v1-` and 32 hex characters."""
    return FORM + clock.token()


async def manager(db: Database, token: str) -> Manager | None:
    """Who has this token; None when it is unknown or revoked."""
    wanted = hashed(token)
    row = await db.row(
        "SELECT token_hash, id, user_id, superuser, expires_at FROM platform_tokens"
        " WHERE token_hash = $1 AND revoked_at IS NULL", wanted,
    )  # fmt: skip
    if row is None or not same(row[0], wanted):
        return None
    return Manager(row[1], row[2], bool(row[3]), row[4])


async def add(
    tx: Tx, clock: Clock, user_id: str, token: str, *, superuser: bool, expires_at: int | None = None
) -> str:
    """Inserts a token and answers its id. The token itself is not kept."""
    now = clock.now_ms()
    token_id = clock.new_id(now)
    await tx.run(
        "INSERT INTO platform_tokens (id, user_id, token_hash, token_end, superuser, expires_at, created_at)"
        " VALUES ($1,$2,$3,$4,$5,$6,$7)",
        token_id, user_id, hashed(token), token[-4:], int(superuser), expires_at, now,
    )  # fmt: skip
    return token_id


async def working(tx: Tx, user_id: str) -> int:
    """How many tokens of a user were not revoked."""
    rows = await tx.rows(
        "SELECT count(*) FROM platform_tokens WHERE user_id = $1 AND revoked_at IS NULL", user_id
    )
    return int(rows[0][0])


async def ensure(tx: Tx, clock: Clock, user_id: str, token: str) -> None:
    """Sees to it that a superuser's token of the settings works. A revoked one stays revoked."""
    if not await tx.rows("SELECT 1 FROM platform_tokens WHERE token_hash = $1", hashed(token)):
        await add(tx, clock, user_id, token, superuser=True)


async def revoke(tx: Tx, at_ms: int, token_id: str, user_id: str | None = None) -> bool:
    """Revokes a token, of one user only if given. False when there is none such, or no longer."""
    mine, args = ("", []) if user_id is None else (" AND user_id = $3", [user_id])
    return bool(await tx.run(
        f"UPDATE platform_tokens SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL{mine}",
        at_ms, token_id, *args,
    ))  # fmt: skip


async def tokens(
    db: Database, user_id: str | None, limit: int, offset: int, *, ascending: bool = False
) -> tuple[int, list[Row]]:
    """How many tokens that are not revoked there are, and one page of them, newest first:
    (id, user id, token end, superuser, expires, created)."""
    where, args = ("", []) if user_id is None else (" AND user_id = $1", [user_id])
    n = await db.rows(f"SELECT count(*) FROM platform_tokens WHERE revoked_at IS NULL{where}", *args)
    at = len(args)
    rows = await db.rows(
        "SELECT id, user_id, token_end, superuser, expires_at, created_at FROM platform_tokens"
        f" WHERE revoked_at IS NULL{where} ORDER BY id {'ASC' if ascending else 'DESC'}"
        f" LIMIT ${at + 1} OFFSET ${at + 2}",
        *args, limit, offset,
    )  # fmt: skip
    return int(n[0][0]), rows
