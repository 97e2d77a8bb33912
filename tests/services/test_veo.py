"""Veo: films from texts and pictures, and larger, longer or changed ones of them."""

from bide.settings import Settings
from tests.services.world import Shop, serve

VIDEOS, UPSAMPLE = "/veo/videos", "/veo/upsample"


def test_a_film_has_eight_seconds_and_the_size_that_was_asked_for(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        response = await shop.made(VIDEOS, prompt="a paper boat", aspect_ratio="9:16", trace_id="order-7731")
        assert list(response) == ["success", "task_id", "trace_id", "data"]
        assert response["trace_id"] == "order-7731"
        (item,) = response["data"]
        assert list(item) == ["id", "video_url", "created_at", "complete_at", "state"]
        assert (item["state"], item["created_at"]) == ("succeeded", "2025-11-24 16:00:00")
        film = await shop.film(item["video_url"])
        assert (film.width, film.height, film.seconds) == (720, 1280, 8.0)
        large = await shop.made(UPSAMPLE, video_id=item["id"], action="1080p")
        assert large["data"][0]["id"] == item["id"]
        film = await shop.film(large["data"][0]["video_url"])
        assert (film.width, film.height, film.seconds) == (1080, 1920, 8.0)

    serve(on_both, test)
