"""A page of somebody else, on the loopback, that plays what a gateway has made; and the scripts it is given."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.browser.chromium import Page

_PAGE = b'<!doctype html><html lang="en"><head><title>A stage</title></head><body></body></html>'

_PLAY = """(async (kind, address) => {
  const media = document.createElement(kind);
  media.muted = true;
  const until = (name, holds = () => true) => new Promise((done, fail) => {
    media.addEventListener(name, () => { if (holds()) done(); });
    media.addEventListener("error", () => fail(new Error(`${name}: ${media.error.code} ${media.error.message}`)));
  });
  const begun = until("timeupdate", () => media.currentTime > 0);
  media.autoplay = true;
  media.src = address;
  document.body.replaceChildren(media);
  await begun;
  const early = media.currentTime;
  media.pause();
  const sought = until("seeked"), ended = until("ended");
  media.currentTime = media.duration - 0.5;
  await sought;
  const late = media.currentTime;
  await media.play();
  await ended;
  return {
    early, late, end: media.currentTime, duration: media.duration, seekable: media.seekable.end(0),
    width: media.videoWidth || 0, height: media.videoHeight || 0,
    frames: media.getVideoPlaybackQuality ? media.getVideoPlaybackQuality().totalVideoFrames : 0,
  };
})"""

_DECODE = """(async (address) => {
  const file = await (await fetch(address)).arrayBuffer();
  const sound = await new OfflineAudioContext(1, 1, 44100).decodeAudioData(file);
  let peak = 0;
  for (const sample of sound.getChannelData(0)) peak = Math.max(peak, Math.abs(sample));
  return {peak, duration: sound.duration};
})"""


@contextlib.contextmanager
def stage(files: Mapping[str, bytes]) -> Iterator[str]:
    """The address of the page; `files` lie beside it, by name, and may be added to while it is there."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            body = files.get(name, b"") if name else _PAGE
            self.send_response(200 if body else 404)
            self.send_header("content-type", "application/octet-stream" if name else "text/html; charset=utf-8")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(10)


def played(page: Page, kind: str, address: str) -> dict[str, Any]:
    """Plays it from its beginning, then its last half second to its end, and says what was seen."""
    seen: dict[str, Any] = page.evaluate(f"{_PLAY}({kind!r}, {address!r})")
    return seen


def decoded(page: Page, address: str) -> dict[str, Any]:
    """The loudest sample (0 to 1) and the length of the sound in a file of the same origin."""
    heard: dict[str, Any] = page.evaluate(f"{_DECODE}({address!r})")
    return heard
