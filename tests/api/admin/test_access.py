"""What all management routes share: turns, and callers that go away."""

import asyncio
from typing import Any

import structlog.testing

from bide.api.admin import access
from bide.api.admin.access import BASE
from bide.api.answers import Message
from bide.settings import Settings
from tests.api.admin.world import Admin, Client, manage
from tests.world import CALLER


async def begin(client: Client, path: str, *given: Message) -> list[Message]:
    """A POST whose body comes as `given` says; what was answered."""
    sent, messages = list[Message](), list(given)

    async def receive() -> Message:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": BASE + path, "raw_path": (BASE + path).encode(),
        "query_string": b"", "headers": [(b"authorization", f"Bearer {client.token}".encode())], "scheme": "http",
        "http_version": "1.1", "server": ("gateway.test", 80), "client": ("127.0.0.1", 1), "root_path": "",
        "state": {},
    }  # fmt: skip
    await client.app(scope, receive, send)
    return sent


async def taken(admin: Admin) -> None:
    """Returns when somebody has the turn."""
    for _ in range(1_000):
        if admin.turns_taken:
            return
        await asyncio.sleep(0)
    raise AssertionError("nobody takes the turn")


PIECE: Message = {"type": "http.request", "body": b"{", "more_body": True}


def test_a_caller_that_goes_away_is_no_failure_of_ours(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        with structlog.testing.capture_logs() as logs:
            sent = await begin(admin.root, "/users/", PIECE, {"type": "http.disconnect"})
        assert sent[0]["status"] == 499
        assert logs == []
        assert (await admin.root.ok("GET", "/users/"))["count"] == 2

    manage(on_sqlite, test)


def test_a_user_waits_for_itself_while_others_are_answered(on_sqlite: Settings) -> None:
    """Beyond some that wait, the next is refused; a superuser waits for nobody."""

    async def test(admin: Admin) -> None:
        slow = asyncio.create_task(begin(admin.mine, "/applications/", PIECE))
        await taken(admin)
        waiting = [asyncio.create_task(admin.mine.get("/applications/")) for _ in range(access.WAITING_MAX)]
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in waiting)
        refused = await admin.mine.get("/applications/")
        assert (refused.code, refused.headers["retry-after"]) == ("too_many_requests", "1")
        assert (await admin.root.get("/applications/")).status == 200
        slow.cancel()
        assert {one.status for one in await asyncio.gather(*waiting)} == {200}
        assert not admin.turns_taken

    manage(on_sqlite, test)


def test_a_token_that_was_revoked_while_it_waited_does_nothing_any_more(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        token_id = (await admin.mine.ok("GET", "/platform-tokens/me/"))["id"]
        slow = asyncio.create_task(begin(admin.mine, "/applications/", PIECE))
        await taken(admin)
        waiting = asyncio.create_task(admin.mine.post("/applications/", {"service_id": "openai"}))
        assert (await admin.root.delete(f"/platform-tokens/{token_id}/")).status == 204
        slow.cancel()
        assert (await waiting).code == "invalid_token"
        assert (await admin.root.ok("GET", "/applications/", user_id=CALLER.user_id))["count"] == 1

    manage(on_sqlite, test)
