"""What was made plays in a real browser, and the documentation is shown by it. Skipped where there is no Chromium."""

import http.client
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.browser.chromium import NAMES, Chromium, Page, browser, program
from tests.browser.stage import decoded, played, stage
from tests.system.client import Client
from tests.system.processes import Process, running

pytestmark = pytest.mark.skipif(
    program() is None, reason=f"no Chromium here: none of {', '.join(NAMES)} is on the PATH; nothing is played"
)


@dataclass(frozen=True)
class House:
    """A gateway, a browser, and a page of somebody else's that can play things."""

    process: Process
    client: Client
    chromium: Chromium
    page: Page
    files: dict[str, bytes]
    stage: str

    def make(self, path: str, **body: Any) -> Any:
        """The answer to a request that waits."""
        answer = self.client.post(path, body)
        assert answer.status == 200, answer
        assert answer.json["success"], answer
        return answer.json

    def sees(self, address: str, size: tuple[int, int], seconds: float) -> None:
        """A film plays, from the gateway itself, in the size and for the time that are promised."""
        seen = played(self.page, "video", address)
        assert (seen["width"], seen["height"]) == size
        assert seen["frames"] > 0
        self._lasts(seen, seconds)

    def hears(self, address: str, kind: str, seconds: float) -> None:
        """The sound of a file can be decoded, is no silence, and is as long as is promised."""
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        try:
            connection.request("GET", parts.path)
            with connection.getresponse() as response:
                self.files["sound"] = response.read()
                assert response.headers["content-type"].split("/")[0] == kind
        finally:
            connection.close()
        heard = decoded(self.page, f"{self.stage}/sound")
        assert heard["peak"] > 0.01
        assert abs(heard["duration"] - seconds) < 0.1

    def plays(self, address: str, seconds: float) -> None:
        """A sound plays, from the gateway itself."""
        self._lasts(played(self.page, "audio", address), seconds)

    def _lasts(self, seen: dict[str, Any], seconds: float) -> None:
        assert abs(seen["duration"] - seconds) < 0.1
        assert seen["early"] > 0
        assert abs(seen["late"] - (seen["duration"] - 0.5)) < 0.1
        assert abs(seen["end"] - seen["duration"]) < 0.1
        assert abs(seen["seekable"] - seen["duration"]) < 0.1


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    files: dict[str, bytes] = {}
    with (
        running("serve", tmp_path_factory.mktemp("browser")) as process,
        stage(files) as address,
        browser() as chromium,
    ):
        page = chromium.page()
        page.open(address)
        yield House(process, process.client(), chromium, page, files, address)


# -- films and songs


def test_a_film_plays_in_the_size_and_for_the_time_that_were_asked_for(house: House) -> None:
    about = {"prompt": "a fox in the snow", "version": "2.0", "duration": 4, "size": "720x1280", "async": False}
    (film,) = house.make("/sora/videos", **about)["data"]
    house.sees(film["video_url"], (720, 1280), 4)


def test_a_film_made_of_a_picture_plays(house: House) -> None:
    picture = house.make("/midjourney/imagine", prompt="a fox in the snow")["image_url"]
    made = house.make("/midjourney/videos", prompt="a fox", image_url=picture, resolution="480p", mode="fast")
    house.sees(made["video_urls"][0], (480, 480), 5)


def test_a_song_and_its_film_play_and_are_no_silence(house: House) -> None:
    song = house.make("/suno/audios", prompt="a song about a harbour", duration=6)["data"][0]
    house.plays(song["audio_url"], 6)
    house.hears(song["audio_url"], "audio", 6)
    film = house.make("/suno/mp4", audio_id=song["id"])["data"]["video_url"]
    house.sees(film, (720, 720), 6)
    house.hears(film, "video", 6)
    (wave,) = house.make("/suno/wav", audio_id=song["id"])["data"]
    house.plays(wave["file_url"], 6)


# -- the documentation


# Links that lead out of the page, or nowhere in it.
_LINKS = """[...document.querySelectorAll("a")].filter((link) => {
  const place = new URL(link.href);
  return place.origin + place.pathname !== location.origin + location.pathname
    || (place.hash && document.getElementById(decodeURIComponent(place.hash.slice(1))) === null);
}).map((link) => link.href)"""
# What the address leads to, once it is in sight.
_SHOWN = """(async () => {
  const found = document.querySelector(":target");
  for (;;) {
    const place = found.getBoundingClientRect();
    if (0 <= place.top && place.bottom <= innerHeight) return found.textContent;
    await new Promise((done) => requestAnimationFrame(done));
  }
})()"""
_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_MENU = "getComputedStyle(document.querySelector('nav')).display"
_PHONE = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}


@pytest.fixture
def reader(house: House) -> Page:
    """A page of its own, whose links do not scroll slowly."""
    page = house.chromium.page()
    page.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
    return page


def test_the_documentation_is_shown_without_a_complaint_and_asks_nobody_else(house: House, reader: Page) -> None:
    url = f"{house.process.url}/docs"
    reader.open(url)
    assert reader.evaluate("document.title") == "bide: API reference"
    assert reader.evaluate("getComputedStyle(document.querySelector('nav')).position") == "sticky"
    assert reader.evaluate("document.querySelectorAll('nav a').length") > 50
    assert reader.evaluate(_LINKS) == []
    assert reader.evaluate(_WIDE) == 0
    assert reader.complaints() == []
    assert {one.removeprefix(house.process.url) for one in reader.requests()} <= {"/docs", "/favicon.ico"}


def test_a_link_to_an_operation_shows_it(house: House, reader: Page) -> None:
    for anchor, title in (("sora-videos", "Make a film"), ("openai-images-generations", "Generate images")):
        reader.open("about:blank")
        reader.open(f"{house.process.url}/docs#{anchor}")
        assert reader.evaluate(_SHOWN).startswith(title)
        assert reader.complaints() == []


def test_on_a_phone_nothing_is_cut_off_and_the_contents_open_and_close(house: House, reader: Page) -> None:
    reader.ask("Emulation.setDeviceMetricsOverride", **_PHONE)
    reader.open(f"{house.process.url}/docs")
    assert reader.evaluate(_WIDE) == 0
    inner = "[...document.querySelectorAll('.grid')].filter((one) => one.scrollWidth > one.clientWidth).length"
    assert reader.evaluate(inner) == 0
    assert reader.evaluate(_MENU) == "none"
    reader.evaluate("document.querySelector('.menu').click()")
    assert reader.evaluate(_MENU) == "block"
    reader.evaluate("document.querySelector('nav a[href=\"#sora-videos\"]').click()")
    assert reader.evaluate(_MENU) == "none"
    assert reader.evaluate(_SHOWN).startswith("Make a film")
    assert reader.complaints() == []


def test_the_other_pages_are_shown_too(house: House, reader: Page) -> None:
    for path, text in (("/llms.txt", "# bide"), ("/openapi.json", '"openapi"')):
        reader.open(house.process.url + path)
        assert text in reader.evaluate("document.body.innerText")[:2000]
        assert {one.removeprefix(house.process.url) for one in reader.requests()} <= {path, "/favicon.ico"}
