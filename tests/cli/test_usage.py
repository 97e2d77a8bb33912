"""`bide usage`: records, their sums and their export, for people and for scripts."""

import asyncio
import csv
import io
from pathlib import Path
from typing import Any

from bide.cli.shared import opened
from bide.clock import Clock
from bide.credits import usage
from bide.credits.usage import Usage
from bide.db import Tx, write_one
from bide.settings import Settings
from tests.cli.program import bide, output, parsed, refusal
from tests.credits.test_usage import a_record
from tests.world import CALLER, add_tenant

GENERATE, EDIT = "0b6f2f0e-5d0a-4c38-9a51-6f1f3a7d2c10", "c7d1b9a4-2e63-4f7b-8a0d-91e5c4b7f3d2"
AT = 1_764_000_000_000
WINDOW = ("--from", "2025-11-20", "--to", "2025-11-30")


def record(number: int, **fields: Any) -> Usage:
    mine = {"user_id": CALLER.user_id, "application_id": CALLER.application_id, "trace_id": f"t-{number}"}
    return a_record(AT + number * 3_600_000, number, **{**mine, **fields})


RECORDS = [
    record(0), record(1, operation="images/edits", trace_id="=1+1"),
    record(10, status=403, code="forbidden", deducted_amount=0), record(11, user_id="u-2", application_id="a-2"),
]  # fmt: skip


def _fill(settings: Settings) -> None:
    async def fill(tx: Tx) -> None:
        await add_tenant(tx, CALLER)
        await usage.add(tx, RECORDS)

    async def inside() -> None:
        async with opened(settings, Clock()) as db:
            await write_one(db, fill)

    asyncio.run(inside())


def test_records_are_listed_newest_first_and_by_filter(on_both: Settings) -> None:
    _fill(on_both)
    rows = parsed(on_both, "usage", "list")
    assert [row["id"] for row in rows] == [one.id for one in RECORDS[::-1]]
    assert rows[-1]["created_at"] == AT / 1000
    assert (rows[-1]["api_id"], rows[-1]["deducted_amount"], rows[-1]["elapsed"]) == (GENERATE, 1, 1.5)
    for words, expected in (
        (("--user", CALLER.user_id), 3), (("--application", CALLER.application_id), 3), (("--api", EDIT), 1),
        (("--api", "openai/images/edits"), 1), (("--status", "403"), 1), (("--trace-id", "t-0"), 1),
        (("--credential", "c-1"), 4), (("--limit", "2"), 2), (("--from", "2025-11-25"), 2), (("--to", "1"), 0),
    ):  # fmt: skip
        assert len(parsed(on_both, "usage", "list", *words)) == expected, words
    listed = output(on_both, "usage", "list").splitlines()
    assert [line.split()[0] for line in listed] == ["id", *(one.id for one in RECORDS[::-1])]
    assert "403 forbidden" in listed[2]
    assert "There are no such records" in output(on_both, "usage", "list", "--to", "1")


def test_sums_are_by_day_of_a_time_zone(on_both: Settings) -> None:
    _fill(on_both)
    found = parsed(on_both, "usage", "aggregate", *WINDOW)
    assert found["total"] == 3
    assert {(one["date"], one["api_id"]): (one["amount"], one["count"]) for one in found["items"]} == {
        ("2025-11-24", GENERATE): (1, 1), ("2025-11-24", EDIT): (1, 1), ("2025-11-25", GENERATE): (1, 2),
    }  # fmt: skip
    assert found["apis"][EDIT] == {"title": "Edit images"}
    tokyo = parsed(on_both, "usage", "aggregate", *WINDOW, "--timezone", "Asia/Tokyo")
    assert {one["date"] for one in tokyo["items"]} == {"2025-11-25"}
    text = output(on_both, "usage", "aggregate", *WINDOW)
    assert text.endswith("Together 3 credits.")
    assert "There are no such records" in output(on_both, "usage", "aggregate", "--to", "1")


def test_an_export_goes_to_the_terminal_or_into_a_file(on_both: Settings, tmp_path: Path) -> None:
    _fill(on_both)
    file = tmp_path / "usage.csv"
    assert output(on_both, "usage", "export", "-o", str(file)) == ""
    assert file.read_bytes().decode() == bide(on_both, "usage", "export").stdout_bytes.decode()
    rows = list(csv.DictReader(io.StringIO(file.read_bytes().decode(), newline="")))
    assert [row["id"] for row in rows] == [one.id for one in RECORDS]
    assert [row["trace_id"] for row in rows] == ["t-0", "'=1+1", "t-10", "t-11"]
    assert "cannot be written" in refusal(on_both, "usage", "export", "-o", str(tmp_path / "no" / "where.csv"))


def test_wrong_names_are_one_sentence_and_wrong_times_a_usage_error(on_sqlite: Settings) -> None:
    assert "no user 'nobody'" in refusal(on_sqlite, "usage", "list", "--user", "nobody")
    assert "no application 'nobody'" in refusal(on_sqlite, "usage", "list", "--application", "nobody")
    assert "time zone" in refusal(on_sqlite, "usage", "aggregate", "--timezone", "Mars")
    assert "longer than 366 days" in refusal(on_sqlite, "usage", "aggregate", "--from", "2020-01-01")
    for words in (("--from", "yesterday"), ("--to", "nan"), ("--status", "7")):
        assert "Usage: " in bide(on_sqlite, "usage", "list", *words, code=2).stderr
