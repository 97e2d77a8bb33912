"""Users, applications and credentials put into the database of a running gateway, as a management page would.

    tenants = Tenants(directory)                   # or Tenants(directory, database_url)
    one = tenants.add(credits=2, limits={"*": {"concurrent": 5}})
    serve.client(one.token).post(...)
    tenants.bide("credential", "revoke", one.credential_id)
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bide import db as database
from bide.accounts.tokens import hashed
from bide.clock import Clock
from bide.credits import ledger
from bide.credits.pricing import micro
from bide.db import Database, Tx, write_one
from bide.settings import Settings
from tests.cli import program

LIFTED: Mapping[str, Any] = {"*": {"submits_per_s": 0, "polls_per_s": 0, "concurrent": 0}}
_T = TypeVar("_T")


@dataclass(frozen=True)
class Tenant:
    token: str
    credential_id: str
    application_id: str
    user_id: str


class Tenants:
    """The accounts of one database."""

    def __init__(self, directory: Path, database_url: str = "") -> None:
        self.settings = Settings(data_dir=str(directory / "data"), database_url=database_url)
        self._numbers, self._clock = itertools.count(), Clock()

    def add(
        self, *, credits: float = 1_000, limits: Mapping[str, Any] | None = LIFTED, of: Tenant | None = None,
        service: str | None = "openai", general: str | None = None, application: Mapping[str, Any] | None = None,
        **credential: Any,
    ) -> Tenant:  # fmt: skip
        """A credential with an application and a user of its own, or of the user of another tenant (`of`).

        `limits` None are the catalogue's; `service` None is the scope Global. Further columns by their names.
        """
        number, now = next(self._numbers), self._clock.now_ms()
        user_id = of.user_id if of else self._clock.new_id(now)
        token, credential_id, application_id = (self._clock.new_id(now) for _ in range(3))
        made = Tenant(token, credential_id, application_id, user_id)
        about = {
            "id": made.application_id, "user_id": user_id, "name": f"application {number}", "service": service,
            "scope": "Individual" if service else "Global", "created_at": now, "updated_at": now,
            "limits": None if limits is None else json.dumps(limits), **(application or {}),
        }  # fmt: skip
        secret = {
            "id": made.credential_id, "application_id": made.application_id, "user_id": user_id, "name": "made",
            "token_hash": hashed(made.token), "token_end": "", "created_at": now, "updated_at": now, **credential,
        }  # fmt: skip

        async def insert(tx: Tx) -> None:
            if of is None:
                await _insert(tx, "users", {"id": user_id, "name": f"user {user_id[-12:]}", "created_at": now})
            await _insert(tx, "applications", about)
            await _insert(tx, "credentials", secret)
            await ledger.grant(tx, f"test/{made.application_id}", made.application_id, micro(credits), now, "a test")

        self.use(lambda db: write_one(db, insert))
        return made

    def another(self, tenant: Tenant, **columns: Any) -> Tenant:
        """A second credential of the same application."""
        now = self._clock.now_ms()
        made = Tenant(self._clock.new_id(now), self._clock.new_id(now), tenant.application_id, tenant.user_id)
        self.use(lambda db: write_one(db, lambda tx: _insert(tx, "credentials", {
            "id": made.credential_id, "application_id": made.application_id, "user_id": made.user_id, "name": "made",
            "token_hash": hashed(made.token), "token_end": "", "created_at": now, "updated_at": now, **columns,
        })))  # fmt: skip
        return made

    def bide(self, *arguments: str) -> str:
        """What a command of the program prints, run while the gateway runs."""
        return program.output(self.settings, *arguments)

    def run(self, sql: str, *args: Any) -> int:
        """How many rows one statement changed."""
        return self.use(lambda db: write_one(db, lambda tx: tx.run(sql, *args)))

    def rows(self, sql: str, *args: Any) -> list[Any]:
        return self.use(lambda db: db.rows(sql, *args))

    def use(self, work: Callable[[Database], Awaitable[_T]]) -> _T:
        async def inside() -> _T:
            db = await database.connect(self.settings)
            try:
                return await work(db)
            finally:
                await db.close()

        return asyncio.run(inside())


async def _insert(tx: Tx, table: str, values: Mapping[str, Any]) -> None:
    marks = ", ".join(f"${at}" for at in range(1, len(values) + 1))
    await tx.run(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", *values.values())
