"""The two stores: a directory, and a bucket of a real object-store server on the loopback."""

import asyncio
import logging
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from bide.settings import Settings
from bide.storage import Storage, open_storage

Use = Callable[[Callable[[Storage], Awaitable[Any]]], Any]


@pytest.fixture(scope="session")
def object_server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    urllib.request.urlopen(urllib.request.Request(f"{address}/results", method="PUT")).close()
    yield address
    server.stop()


@pytest.fixture(params=["local", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "local":
        return Settings(data_dir=str(tmp_path))
    return Settings(
        data_dir=str(tmp_path),
        storage_url="s3://results/some/prefix",
        s3_endpoint=request.getfixturevalue("object_server"),
        s3_access_key_id="key",
        s3_secret_access_key="secret",
    )


@pytest.fixture
def use(settings: Settings) -> Use:
    """Runs a coroutine function with the store, in a loop of its own, and closes the store."""

    def run(steps: Callable[[Storage], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            storage = open_storage(settings)
            try:
                return await steps(storage)
            finally:
                await storage.close()

        return asyncio.run(main())

    return run
