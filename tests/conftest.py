"""What many tests share: both databases, a gateway, and a running one with a client."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from bide.settings import Settings
from tests.databases import PostgresServer, postgres

# The same examples everywhere and no clock: a busy machine must not fail a test. `--hypothesis-profile=search` looks
# for new ones.
_NO_CLOCK = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("same", derandomize=True, database=None, **_NO_CLOCK)  # type: ignore[arg-type]
hypothesis.settings.register_profile("search", **_NO_CLOCK)  # type: ignore[arg-type]
hypothesis.settings.load_profile("same")



def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Says at once what failed: a run that is cut short never gets to its summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext[-4000:]}", flush=True)


for _name in [name for name in os.environ if name.startswith("BIDE_")]:
    del os.environ[_name]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Empty for SQLite in the data directory, else the URL of an empty PostgreSQL database."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.new_database()


@pytest.fixture
def on_both(database_url: str, tmp_path: Path) -> Settings:
    """Settings on each of the two databases: a test that takes them runs twice."""
    return quick(tmp_path, database_url=database_url)


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Settings:
    return quick(tmp_path)


def quick(directory: Path, **more: object) -> Settings:
    """Settings for tests: no waiting in the sandbox, loopback receivers allowed, short leases and looks."""
    values: dict[str, object] = {
        "data_dir": str(directory / "data"), "sandbox_delay_s": 0.0, "callback_allow_private": "127.0.0.0/8,::1/128",
        "worker_poll_s": 0.05, "lease_s": 2.0, "callback_schedule": (0.0, 0.1, 0.2), "callback_timeout_s": 1.0,
        "stop_grace_s": 2.0,
    }  # fmt: skip
    return Settings(**(values | more))  # type: ignore[arg-type]
