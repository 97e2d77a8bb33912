"""`/services`, `/apis`, `/models/catalog`: what is sold and what it costs, for everybody."""

import pytest

from bide.credits.pricing import credits
from bide.settings import Settings
from tests.api.admin.world import Admin, manage


def test_the_services_show_their_prices_limits_and_operations_without_a_token(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        catalog = admin.world.gateway.catalog
        found = await admin.nobody.ok("GET", "/services/", limit=200)
        assert found["count"] == len(found["items"]) == len(catalog.services)
        (openai,) = (await admin.nobody.ok("GET", "/services/", id="openai"))["items"]
        service = catalog.services["openai"]
        assert (openai["id"], openai["alias"], openai["unit"]) == ("openai", "openai", "Credit")
        assert openai["title"] == service.title
        assert openai["free_amount"] == credits(service.free_amount)
        assert openai["cost"] == [dict(one) for one in service.prices_shown]
        assert all({"conditions", "consumption", "unit"} <= set(one) for one in openai["cost"])
        assert openai["limits"]["classes"]["images"]["concurrent"] == 10
        paths = ["/openai/images/generations", "/openai/images/edits", "/openai/chat/completions"]
        assert [one["path"] for one in openai["apis"]] == paths
        assert {"id", "path", "title", "type"} <= set(openai["apis"][0])

    manage(on_sqlite, test)


def test_an_unknown_service_is_in_no_list_and_pages_are_pages(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        assert await admin.nobody.ok("GET", "/services", id="nobody") == {"count": 0, "items": []}
        whole = (await admin.nobody.ok("GET", "/models/catalog", limit=200))["items"]
        page = await admin.nobody.ok("GET", "/models/catalog", limit=3, offset=2)
        assert (page["count"], page["items"]) == (len(whole), whole[2:5])
        assert (await admin.nobody.get("/services", limit="x")).code == "bad_request"

    manage(on_sqlite, test)


def test_an_operation_is_found_by_any_of_its_paths(on_sqlite: Settings) -> None:
    async def test(admin: Admin) -> None:
        operation = admin.world.gateway.catalog.operation("openai", "images/generations")
        spec = (await admin.nobody.request("GET", "/openapi.json", base="")).json
        for path in operation.paths:
            (found,) = (await admin.nobody.request("GET", "/apis/", query={"path": path})).json["items"]
            assert found["id"] == operation.entry.api_id
            assert found["service_id"] == "openai"
            assert found["cost"] == [dict(one) for one in operation.prices_shown]
            at = spec
            for step in found["definition"]["$ref"].partition("#/")[2].split("/"):
                at = at[step.replace("~1", "/").replace("~0", "~")]
            assert "post" in at
        none = await admin.nobody.request("GET", "/apis/", query={"path": "/nobody"})
        assert none.json == {"count": 0, "items": []}

    manage(on_sqlite, test)


@pytest.mark.parametrize("model", ["gpt-image-1", "nano-banana-pro"])
def test_a_model_is_priced_as_a_request_for_it_would_be(on_sqlite: Settings, model: str) -> None:
    async def test(admin: Admin) -> None:
        operation = admin.world.gateway.catalog.operation("openai", "images/generations")
        found = (await admin.nobody.ok("GET", "/models/catalog/", service_id="openai", limit=200))["items"]
        (shown,) = [one for one in found if one["id"] == model and one["api_id"] == operation.entry.api_id]
        price = operation.price(operation.check({"prompt": "a boat", "model": model}))
        assert (shown["price"], shown["unit_price"]) == (credits(price.total), credits(price.unit_price))
        assert shown["price"] > 0
        assert await admin.nobody.ok("GET", "/models/catalog/", service_id="nobody") == {"count": 0, "items": []}

    manage(on_sqlite, test)
