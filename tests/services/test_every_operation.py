"""Every operation of the catalogue, from the catalogue: a service that is added is held to all of this for free.

What the package knows and does not offer is switched on here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bide.catalog.files import tables_of
from bide.catalog.load import Catalog, Operation, load
from bide.catalog.template import Each, Listing, Name, Table, names
from bide.credits.pricing import credits
from bide.errors import BadRequest
from bide.providers.media.sound import wav
from bide.settings import Settings
from tests.services.bodies import addresses_in, everything, operations, smallest, steered, wrong_values
from tests.services.world import Shop, serve
from tests.system.loopback import picture, pictures
from tests.world import receiving

SERVICES = sorted(tables_of([]))


@pytest.fixture(scope="module")
def catalog_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return everything(tmp_path_factory.mktemp("catalog"))


@pytest.fixture(scope="module")
def catalog(catalog_dir: Path) -> Catalog:
    return load([catalog_dir])


@pytest.fixture(scope="module")
def a_picture() -> Iterator[str]:
    with pictures(one=picture(640, 360), sound=wav(bytes(2 * 8_000 * 12), rate=8_000)) as address:
        yield f"{address}/one"


# -- what is refused


@pytest.mark.parametrize("service", SERVICES)
def test_every_wrong_value_is_refused_in_a_sentence_that_names_the_field(catalog: Catalog, service: str) -> None:
    for operation in catalog.services[service].operations.values():
        body = smallest(operation)
        for name, field in operation.fields.items():
            for spelling in (name, *field.aliases):
                for value in wrong_values(field):
                    with pytest.raises(BadRequest) as refused:
                        operation.check({**body, spelling: value})
                    assert str(refused.value).startswith(f"`{spelling}"), (operation.key, value)
                    assert "; it must be " in str(refused.value)


@pytest.mark.parametrize("service", SERVICES)
def test_a_required_field_that_is_missing_is_named(catalog: Catalog, service: str) -> None:
    for operation in catalog.services[service].operations.values():
        body = smallest(operation)
        for name in (name for name, field in operation.fields.items() if field.required):
            with pytest.raises(BadRequest, match=f"`{name}` is missing; it must be "):
                operation.check({key: value for key, value in body.items() if key != name})


@pytest.mark.parametrize("service", SERVICES)
def test_unknown_fields_are_kept_and_null_means_left_out(catalog: Catalog, service: str) -> None:
    for operation in catalog.services[service].operations.values():
        body = smallest(operation)
        plain = operation.check(body)
        optional = {name: None for name, field in operation.fields.items() if not field.required and name not in body}
        assert operation.check({**body, **optional, "of_my_own": [1]}) == plain, operation.key


PRIVATE = "http://10.0.0.1/x"


@pytest.mark.parametrize("service", SERVICES)
def test_a_private_address_is_refused_wherever_one_can_be(
    on_sqlite: Settings, catalog: Catalog, catalog_dir: Path, service: str
) -> None:
    """At every place that the catalogue names, deep inside a list or among the words of a prompt too."""

    async def test(shop: Shop) -> None:
        for operation in catalog.services[service].operations.values():
            for name, where, value, _ in addresses_in(operation, PRIVATE):
                if operation.fields[name].places == () or operation.fields[name].form_only:
                    continue
                sentence = await shop.refused(operation.paths[0], **smallest(operation, also={name: value}))
                assert sentence.startswith(f"`{where}`: The URL's host is not a public address"), operation.key

    serve(on_sqlite, test, catalog_dir=str(catalog_dir))


# -- what is made


async def _source(shop: Shop, catalog: Catalog, operation: Operation, name: str, a_picture: str) -> str:
    """Something that a field takes, made for it."""
    field = operation.fields[name]
    makers = [
        one for one in catalog.services[operation.service].operations.values()
        if one.entry.makes == field.kind and (not field.of or one.path in field.of) and one is not operation
    ]  # fmt: skip
    maker = min(makers, key=lambda one: len(one.items))
    response = await _made(shop, catalog, maker, a_picture)
    rows = await shop.world.gateway.db.rows("SELECT id FROM items WHERE task_id = $1", response["task_id"])
    assert rows, f"{maker.key} says that it makes a {field.kind}, and there is none"
    return str(rows[0][0])


async def _body(shop: Shop, catalog: Catalog, operation: Operation, a_picture: str) -> dict[str, Any]:
    needed = [name for name in operation.items if name in smallest(operation)]
    given = {name: await _source(shop, catalog, operation, name, a_picture) for name in needed}
    a_sound = a_picture.replace("/one", "/sound")
    return smallest(operation, {**given, "a picture": a_picture, "a sound": a_sound})


async def _made(shop: Shop, catalog: Catalog, operation: Operation, a_picture: str) -> dict[str, Any]:
    body = await _body(shop, catalog, operation, a_picture)
    return await shop.made(operation.paths[0], **body)


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_is_made_at_once_waited_for_and_called_back(
    on_sqlite: Settings, catalog: Catalog, catalog_dir: Path, a_picture: str, service: str
) -> None:
    """The same answer in all three, retrieved and listed, priced and charged as the price rules say."""
    _made_in_every_way(on_sqlite, catalog, catalog_dir, a_picture, service)


@pytest.mark.parametrize("service", ["kling", "veo"])
def test_so_it_is_on_both_databases(
    on_both: Settings, catalog: Catalog, catalog_dir: Path, a_picture: str, service: str
) -> None:
    """The database does not know what a service is, so a few are enough."""
    if on_both.database_url:
        _made_in_every_way(on_both, catalog, catalog_dir, a_picture, service)


def _made_in_every_way(
    settings: Settings, catalog: Catalog, catalog_dir: Path, a_picture: str, service: str
) -> None:

    async def one(shop: Shop, operation: Operation) -> None:
        body, path = await _body(shop, catalog, operation, a_picture), operation.paths[0]
        price = operation.price(operation.check(body))
        quote = (await shop.ask(path, **body, dry_run=True)).json
        assert quote["price"]["amount"] == credits(price.total)
        before = await shop.charged()
        task = await shop.task(path, **body, **{"async": True})
        response = task["response"]
        assert response["success"] is True, response
        assert await shop.charged() == pytest.approx(before + price.total / 1e6)
        assert (task["type"], task["api_id"]) == (operation.type, operation.entry.api_id)
        assert task["request"] == {**body, "async": True}
        waited = await shop.ask(operation.paths[-1], **body, **{"async": False})
        assert waited.status == 200, waited
        assert _shape(waited.json) == _shape(response) - (
            {"success", "task_id", "trace_id"} if operation.entry.bare
            else set() if operation.entry.inline_stored else {"task_id"}
        )  # fmt: skip
        shop.world.clock.pass_s(1)  # tasks of one millisecond have no order
        shop.world.clock.pass_s(1)
        async with receiving() as receiver:
            accepted = (await shop.ask(path, **body, callback_url=receiver.url)).json
            assert set(accepted) == {"success", "task_id", "trace_id"}
            await shop.work()
            assert await shop.world.deliver() == 1
            (posted,) = receiver.got
        assert (posted.body["success"], posted.body["task_id"]) == (True, accepted["task_id"])
        if operation.entry.callback == "flat":
            assert posted.body == (await shop.retrieve(path, accepted["task_id"]))["response"]
        listed = (await shop.ask(f"/{service}/tasks", action="retrieve_batch", type=operation.type, limit=1)).json
        assert listed["items"][0]["id"] == accepted["task_id"]
        await _files_are_there(shop, response)

    async def test(shop: Shop) -> None:
        for operation in catalog.services[service].operations.values():
            await one(shop, operation)

    serve(settings, test, catalog_dir=str(catalog_dir))


@pytest.mark.parametrize("service", SERVICES)
def test_every_operation_fails_uncharged_in_the_one_shape_of_failures(
    on_sqlite: Settings, catalog: Catalog, catalog_dir: Path, a_picture: str, service: str
) -> None:
    async def test(shop: Shop) -> None:
        for operation in catalog.services[service].operations.values():
            body = await _body(shop, catalog, operation, a_picture)
            before = await shop.charged()
            failing = steered(operation, body, "[fail:forbidden]")
            if failing is None:
                continue  # steered by what it follows up: see the tests of the service
            task = await shop.task(operation.paths[0], **failing)
            assert task["response"]["success"] is False, (operation.key, task)
            assert set(task["response"]) == {"success", "task_id", "trace_id", "error"}
            assert task["response"]["error"]["code"] == "forbidden"
            assert await shop.charged() == before

    serve(on_sqlite, test, catalog_dir=str(catalog_dir))


@pytest.mark.parametrize("service", SERVICES)
def test_a_picture_deep_inside_a_request_is_fetched_and_named_where_it_is_none(
    on_sqlite: Settings, catalog: Catalog, catalog_dir: Path, a_picture: str, service: str
) -> None:
    sound = a_picture.replace("/one", "/sound")

    async def test(shop: Shop) -> None:
        for operation in catalog.services[service].operations.values():
            for name, where, value, fetch in addresses_in(operation, sound):
                if operation.fields[name].places and fetch == "picture":
                    body = smallest(operation, {"a picture": a_picture}, {name: value})
                    task = await shop.task(operation.paths[0], **body)
                    error = task["response"]["error"]
                    assert (error["code"], error["message"][: len(where) + 4]) == ("bad_request", f"`{where}`: ")

    if any(field.places for operation in catalog.services[service].operations.values()
           for field in operation.fields.values()):  # fmt: skip
        serve(on_sqlite, test, catalog_dir=str(catalog_dir))


@pytest.mark.parametrize("service", SERVICES)
def test_what_is_not_mine_is_answered_like_what_is_not_there(
    on_sqlite: Settings, catalog: Catalog, catalog_dir: Path, a_picture: str, service: str
) -> None:
    """Only operations that follow something up."""

    async def test(shop: Shop) -> None:
        for operation in catalog.services[service].operations.values():
            for name in operation.items:
                if name not in smallest(operation):
                    continue
                body = await _body(shop, catalog, operation, a_picture)
                unknown = {**body, name: f"{body[name]}0"}
                foreign = await shop.ask(operation.paths[0], shop.theirs, **body)
                nothing = await shop.ask(operation.paths[0], shop.theirs, **unknown)
                assert (foreign.status, foreign.code) == (400, "bad_request")
                assert foreign.without_trace == nothing.without_trace

    if any(operation.items for operation in catalog.services[service].operations.values()):
        serve(on_sqlite, test, catalog_dir=str(catalog_dir))


async def _files_are_there(shop: Shop, response: Any) -> None:
    """Every address of ours in an answer leads to a file."""
    text = json.dumps(response)
    for url in (one for one in text.split('"') if one.startswith("http://gateway.test/files/")):
        assert len(await shop.file(url)) > 100


def _shape(answer: dict[str, Any]) -> set[str]:
    return set(answer)


# -- what the catalogue promises


def test_every_answer_with_files_names_what_can_be_asked_for_again(catalog: Catalog) -> None:
    """An operation that makes something a field of its service takes must show its id."""
    for operation in operations(catalog):
        if operation.entry.makes and any(
            field.kind == operation.entry.makes
            for other in catalog.services[operation.service].operations.values() for field in other.fields.values()
        ):
            assert Name("item", "id") in set(names(operation.template)), operation.key


def test_a_list_of_items_is_repeated_for_each(catalog: Catalog) -> None:
    """A list that speaks of items without `each` would show the first alone."""

    def look(node: Any, key: str) -> None:
        match node:
            case Table():
                for one in node.entries.values():
                    look(one, key)
            case Listing():
                for entry in node.entries:
                    of_items = any(name.context in ("item", "asset") for name in names(entry))
                    assert isinstance(entry, Each) or not of_items, key

    for operation in operations(catalog):
        look(operation.template, operation.key)
