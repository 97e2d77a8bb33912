"""Channels over the management API: for superusers alone, and no answer or log holds a key."""

from typing import Any

from bide.channels import store
from bide.db import write_one
from bide.settings import Settings
from tests.api.admin.world import Admin, manage

KEY = "sk-live-0123456789abcdef"
NEW: dict[str, Any] = {
    "name": "main", "provider": "openai_images", "base_url": "https://api.example.com/v1", "key": KEY, "priority": 2,
    "options": {"extra": {"api_token": "t-secret"}, "stream": True},
}  # fmt: skip
SECRET = {"secret_key": "a secret key that is long enough for this"}


def test_to_anybody_but_a_superuser_there_is_no_such_path(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        for client, code in ((admin.mine, "not_found"), (admin.nobody, "no_token")):
            for method, path in (("GET", "/channels"), ("POST", "/channels"), ("GET", "/channels/unused"),
                                 ("PATCH", "/channels/unused"), ("DELETE", "/channels/unused"),
                                 ("POST", "/channels/unused/test")):  # fmt: skip
                answer = await client.request(method, path, {} if method != "GET" else None)
                assert answer.code == code, (method, path)

    manage(on_both, test, **SECRET)


def test_a_channel_is_added_shown_changed_and_removed_and_its_key_is_never_seen(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        root, seen = admin.root, list[bytes]()
        answer = await root.post("/channels/", NEW)
        made = answer.json
        seen.append(answer.body)
        assert answer.status == 201
        assert (made["key"], made["state"], made["configured_in"]) == ("…cdef", "in use", "database")
        assert made["options"] == {"extra": {"api_token": "***"}, "stream": True}
        answer = await root.get("/channels/main")
        assert answer.json == made | {"open": 0}
        answer = await root.patch("/channels/main", answer.json | {"weight": 5, "disabled": True})
        changed = answer.json
        seen.append(answer.body)
        assert (changed["weight"], changed["state"], changed["key"]) == (5, "disabled", "…cdef")
        assert changed["options"] == made["options"]
        listed = await root.get("/channels")
        seen.append(listed.body)
        assert [(one["name"], one["configured_in"]) for one in listed.json["items"]] == [
            ("main", "database"), ("unused", "bide.toml"),
        ]  # fmt: skip
        assert (await root.get("/channels", limit=1, offset=1)).json["items"][0]["name"] == "unused"
        assert (await root.patch("/channels/main", {"disabled": False})).json["state"] == "in use"
        assert (await root.delete("/channels/main")).status == 204
        assert (await root.delete("/channels/main")).code == "not_found"
        assert (await root.ok("GET", "/channels/main"))["state"] == "being removed"
        again = await root.post("/channels", NEW)
        assert "last work is not over" in again.message
        said = b"".join(seen).decode() + str(admin.world.logs)
        assert KEY not in said
        assert "t-secret" not in said

    manage(on_both, test, **SECRET)


def test_what_was_kept_opens_with_what_was_asked_for(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await admin.root.ok("POST", "/channels", NEW)
        await admin.root.ok("PATCH", "/channels/main", {"key": "another-key-0123456789"})
        kept = await store.one(admin.world.gateway.db, "main")
        assert kept is not None
        assert kept.sealed is not None
        assert b"another" not in kept.sealed
        assert kept.key_end == "6789"

    manage(on_both, test, **SECRET)


def test_what_makes_no_sense_is_refused_in_words_and_changes_nothing(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        root = admin.root
        await root.ok("POST", "/channels", NEW)
        for body, said in (
            (NEW, "there is a channel of that name"),
            ({**NEW, "name": "unused"}, "`bide.toml` has"),
            ({**NEW, "name": "a/b"}, "`name`"),
            ({"provider": "sandbox"}, "`name` is missing"),
            ({**NEW, "name": "x", "provider": "no_such"}, "there is no provider"),
            ({**NEW, "name": "x", "key_file": "/etc/passwd"}, "`key_file`"),
            ({**NEW, "name": "x", "key": "***"}, "give it anew"),
            ({**NEW, "name": "x", "disabled": 1}, "`disabled`"),
            ({**NEW, "name": "x", "wieght": 1}, "wieght"),
        ):
            refused = await root.post("/channels", body)
            assert refused.code == "bad_request"
            assert said in refused.message, refused.message
        for path, body, said in (
            ("/channels/main", {"name": "other"}, "cannot be changed"),
            ("/channels/main", {"weight": 0}, "weight"),
            ("/channels/unused", {"weight": 2}, "`bide.toml`"),
        ):
            refused = await root.patch(path, body)
            assert (refused.code, said in refused.message) == ("bad_request", True), refused.message
        assert (await root.patch("/channels/x", {"weight": 2})).code == "not_found"
        assert (await root.get("/channels/x")).code == "not_found"
        assert (await root.post("/channels/x/test")).code == "not_found"
        assert (await root.ok("GET", "/channels"))["count"] == 2

    manage(on_both, test, **SECRET)


def test_a_short_secret_key_is_said_and_nothing_is_kept(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        refused = await admin.root.post("/channels", NEW)
        assert (refused.code, "32 characters" in refused.message) == ("bad_request", True)
        assert (await admin.root.ok("GET", "/channels"))["count"] == 1

    manage(on_both, test, secret_key="too short")


def test_a_row_of_another_secret_key_is_shown_and_says_why_it_cannot_be_tried(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await admin.root.ok("POST", "/channels", NEW)
        db = admin.world.gateway.db
        await write_one(db, lambda tx: tx.run("UPDATE channels SET key_sealed = $1", b"\x01" + b"x" * 40))
        assert (await admin.root.ok("GET", "/channels/main"))["key"] == "…cdef"
        refused = await admin.root.post("/channels/main/test")
        assert (refused.code, "cannot be opened" in refused.message) == ("bad_request", True)
        mended = await admin.root.patch("/channels/main", {"key": KEY, "options": {}})
        assert mended.status == 200

    manage(on_both, test, **SECRET)


def test_trying_one_says_what_was_seen(on_both: Settings) -> None:
    async def test(admin: Admin) -> None:
        await admin.root.ok("POST", "/channels", {"name": "draws", "provider": "sandbox", "options": {"delay_s": 0}})
        saw = await admin.root.ok("POST", "/channels/draws/test", {"capability": "image.generate"})
        assert (saw["verdict"], saw["words"]) == ("answered", "It did image.generate with 1 file.")
        saw = await admin.root.ok("POST", "/channels/unused/test")
        assert (saw["verdict"], saw["code"]) == ("not_reachable", "api_error")
        assert "a-key" not in str(saw)

    manage(on_both, test, **SECRET)
