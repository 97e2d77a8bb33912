"""The proof of the books: finds every row of `ledger`, `balances`, `spending`, `usage`, `queue` and `endings` that
contradicts another.

A gateway may go on meanwhile. Every rule is one statement, so it sees one moment; a rule about tasks is asked for one
range of ids after the other, so no statement takes long however long the ledger is. The sums are compared at one
moment too: below the oldest open task (the `horizon`) no row changes any more, so those are added up range by range,
and one last statement compares them and the rest of the ledger with what `balances` and `spending` say.

Limited to tasks since an id the work does not grow with the ledger. Then the sums are left out, except that what is
held must still be what the open tasks hold.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bide.clock import first_id
from bide.credits.pricing import shown
from bide.db import Database, Row

MOST = 100
"""Problems of one audit that are told; the others are counted."""
CHUNK = 20_000
"""Tasks of one statement: about a tenth of a second."""
SLACK_MS = 600_000
"""A task has its id from before it is written down, by a clock that may differ: ids of so long ago are complete."""
LAST = "~"
"""After every id of a task."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Which check found it, at which task, application or credential, and in words what is wrong."""

    check: str
    what: str
    detail: str


@dataclass(slots=True)
class Check:
    """What one check looked at and how much of that is wrong."""

    rows: int = 0
    problems: int = 0


@dataclass(slots=True)
class Report:
    """What an audit found. The books are right when `count` is 0."""

    checks: dict[str, Check] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    """The first of them."""

    @property
    def count(self) -> int:
        return sum(one.problems for one in self.checks.values())

    def add(self, check: str, rows: int, problems: Sequence[Problem] = (), count: int | None = None) -> None:
        found = self.checks.setdefault(check, Check())
        found.rows += rows
        found.problems += len(problems) if count is None else count
        self.problems += problems[: max(MOST - len(self.problems), 0)]


CHECKS = {
    "balances": "the sums of every application are its ledger added up",
    "spending": "the sums of every credential are its usage and its open tasks added up",
    "held": "what is held of a balance or by a credential is what the open tasks hold",
    "left": "nobody has spent more than there was",
    "queue": "the ledger holds for every open task what the task says, and nothing is charged for it yet",
    "holds": "no hold is left of a task that is over",
    "tasks": "a hold was charged or released, once and in full, for one payer",
    "general": "the general balance is charged only where it was held, after the application's own",
    "failed": "nothing was charged for a task that failed or was cancelled",
    "usage": "every record says what the ledger says, units times price were charged, and none is missing",
    "endings": "every task that ended has its usage record",
}
"""Every check, in the order in which it is shown, and what it proves."""
WHOLE = ("balances", "spending")
"""Those that are only made over the whole ledger."""


async def horizon(db: Database, at_ms: int) -> str:
    """The first id whose task may be open, or not be written down yet; `at_ms` is now.

    Whatever ends from now on has this id or a later one.
    """
    row = await db.row("SELECT min(task_id) FROM queue")
    newest = first_id(at_ms - SLACK_MS)
    return min(row[0], newest) if row is not None and row[0] is not None else newest


async def audit(db: Database, now_ms: int, since: str = "", chunk: int = CHUNK) -> Report:
    """Proves the books of all tasks, or of those with this id or a later one and of all that are open."""
    report = Report()
    for name in CHECKS:
        if not since or name not in WHOLE:
            report.add(name, 0)
    sums = _Sums()
    begin = since
    for end in (await horizon(db, now_ms), LAST) if not since else (LAST,):
        while begin < end:
            until = await _next(db, begin, end, chunk)
            rows = await sums.read(db, begin, until, keep=end != LAST)
            await _range(db, report, begin, until, rows)
            begin = until
        if end != LAST:
            await _compare(db, report, sums, begin)
    for rule in _OF_ALL:
        await _ask(db, report, rule)
    (open_tasks, applications, credentials) = (await db.scan(_SIZES))[0]
    for check, rows in (("queue", open_tasks), ("held", applications + credentials),
                        ("left", applications + credentials)):  # fmt: skip
        report.add(check, rows)
    return report


async def _next(db: Database, begin: str, end: str, chunk: int) -> str:
    """Where a range that begins there ends, so that it has about `chunk` tasks at most."""
    found = []
    for sql, step in ((_STEP_LEDGER, 4 * chunk), (_STEP_USAGE, chunk), (_STEP_ENDINGS, chunk)):
        found += [row[0] for row in await db.scan(sql, begin, step)]
    return str(min([end, *(one for one in found if one > begin)]))


_STEP_LEDGER = "SELECT ref FROM ledger WHERE ref >= $1 AND kind <> 'grant' ORDER BY ref LIMIT 1 OFFSET $2"
_STEP_USAGE = "SELECT id FROM usage WHERE id >= $1 ORDER BY id LIMIT 1 OFFSET $2"
_STEP_ENDINGS = "SELECT task_id FROM endings WHERE task_id >= $1 ORDER BY task_id LIMIT 1 OFFSET $2"
_SIZES = (
    "SELECT (SELECT count(*) FROM queue), (SELECT count(DISTINCT application_id) FROM balances),"
    " (SELECT count(DISTINCT credential_id) FROM spending)"
)


# -- the sums


@dataclass(slots=True)
class _Rows:
    """How much there is in a range."""

    ledger: int
    usage: int
    endings: int


class _Sums:
    """The ledger and the usage of tasks that are over, added up."""

    def __init__(self) -> None:
        self.moved: dict[str, Counter[str]] = {}
        """By application and kind."""
        self.used: Counter[str] = Counter()
        """By credential."""
        self.rows = 0

    async def read(self, db: Database, begin: str, until: str, *, keep: bool) -> _Rows:
        """Counts what is there, and adds it to the sums if it is to be kept."""
        moved = await db.scan(
            "SELECT application_id, kind, cast(sum(amount) AS BIGINT), count(*) FROM ledger"
            " WHERE ref >= $1 AND ref < $2 AND kind <> 'grant' GROUP BY application_id, kind", begin, until,
        )  # fmt: skip
        used = await db.scan(
            "SELECT credential_id, cast(sum(deducted_amount) AS BIGINT), count(*) FROM usage"
            " WHERE id >= $1 AND id < $2 GROUP BY credential_id", begin, until,
        )  # fmt: skip
        ended = await db.scan(
            "SELECT count(*) FROM endings WHERE task_id >= $1 AND task_id < $2", begin, until
        )
        if keep:
            for application_id, kind, amount, _ in moved:
                self.moved.setdefault(application_id, Counter())[kind] += amount
            for credential_id, amount, _ in used:
                self.used[credential_id] += amount
        return _Rows(sum(row[3] for row in moved), sum(row[2] for row in used), ended[0][0])


_BALANCES = (
    "SELECT application_id, cast(sum(granted) AS BIGINT), cast(sum(used) AS BIGINT), cast(sum(held) AS BIGINT) FROM ("
    "SELECT application_id, granted, used, held FROM balances"
    " UNION ALL SELECT application_id, -amount, 0, 0 FROM ledger WHERE kind = 'grant'"
    " UNION ALL SELECT application_id, 0, CASE kind WHEN 'charge' THEN -amount ELSE 0 END,"
    " CASE kind WHEN 'hold' THEN -amount ELSE amount END FROM ledger WHERE ref >= $1 AND kind <> 'grant'"
    ") AS sums GROUP BY application_id ORDER BY application_id"
)
_SPENDING = (
    "SELECT credential_id, cast(sum(used) AS BIGINT), cast(sum(held) AS BIGINT) FROM ("
    "SELECT credential_id, used, held FROM spending"
    " UNION ALL SELECT credential_id, -deducted_amount, 0 FROM usage WHERE id >= $1"
    " UNION ALL SELECT t.credential_id, 0, -(q.held + q.held_general) FROM queue q CROSS JOIN tasks t"
    " WHERE t.id = q.task_id"
    ") AS sums GROUP BY credential_id ORDER BY credential_id"
)


async def _compare(db: Database, report: Report, sums: _Sums, begin: str) -> None:
    """What the sums of the tables have more than the rows they are made of must be nothing."""
    rows = {row[0]: (row[1], row[2], row[3]) for row in await db.scan(_BALANCES, begin)}
    problems = []
    for one in sorted(rows.keys() | sums.moved.keys()):
        granted, used, held = rows.get(one, (0, 0, 0))
        moved = sums.moved.get(one, Counter())
        used -= moved["charge"]
        held -= moved["hold"] - moved["charge"] - moved["release"]
        if granted or used or held:
            more = f"granted {shown(granted)}, used {shown(used)}, held {shown(held)}"
            problems.append(Problem("balances", one, f"the balance is more than its ledger by {more}"))
    report.add("balances", len(rows), problems)
    spent = {row[0]: (row[1], row[2]) for row in await db.scan(_SPENDING, begin)}
    problems = []
    for one in sorted(spent.keys() | sums.used.keys()):
        used, held = spent.get(one, (0, 0))
        used -= sums.used[one]
        if used or held:
            more = f"used {shown(used)}, held {shown(held)}"
            problems.append(Problem("spending", one, f"the credential's sum is more than its tasks by {more}"))
    report.add("spending", len(spent), problems)


# -- the rules


@dataclass(frozen=True, slots=True)
class _Rule:
    """A query for what is wrong: what it is about, how many rows there are, then values for the words. Whole numbers
    among them are amounts."""

    check: str
    words: str
    sql: str


_MOVES = (
    "WITH moves AS (SELECT ref, part, min(application_id) AS payer, count(DISTINCT application_id) AS payers,"
    " min(amount) AS least, cast(sum(CASE kind WHEN 'hold' THEN amount ELSE 0 END) AS BIGINT) AS held,"
    " cast(sum(CASE kind WHEN 'charge' THEN amount ELSE 0 END) AS BIGINT) AS charged,"
    " cast(sum(CASE kind WHEN 'release' THEN amount ELSE 0 END) AS BIGINT) AS released,"
    " sum(CASE WHEN kind IN ('hold', 'charge', 'release') AND part IN (0, 1) THEN 0 ELSE 1 END) AS strange"
    " FROM ledger WHERE ref >= $1 AND ref < $2 AND kind <> 'grant' GROUP BY ref, part), "
    "sums AS (SELECT ref, cast(sum(held) AS BIGINT) AS held, cast(sum(charged) AS BIGINT) AS charged,"
    " cast(sum(CASE part WHEN 1 THEN charged ELSE 0 END) AS BIGINT) AS general FROM moves GROUP BY ref) "
)
"""The ledger of a range of tasks by task and part, and by task."""

_IS_OPEN = "EXISTS (SELECT 1 FROM queue q WHERE q.task_id = m.ref)"
_LEFT_OVER = "m.held > 0 AND m.charged = 0 AND m.released = 0"

_OF_RANGE = (
    _Rule(
        "holds", "{} is held for a task that is over",
        f"{_MOVES} SELECT m.ref, count(*) OVER (), m.held FROM moves m WHERE {_LEFT_OVER} AND NOT {_IS_OPEN}",
    ),
    _Rule(
        "tasks", "held {}, charged {}, released {}",
        f"{_MOVES} SELECT m.ref, count(*) OVER (), m.held, m.charged, m.released FROM moves m"
        " WHERE m.payers <> 1 OR m.least <= 0 OR m.strange > 0 OR m.charged > m.held"
        f" OR (m.held <> m.charged + m.released AND NOT ({_LEFT_OVER}) AND NOT {_IS_OPEN})",
    ),
    _Rule(
        "general", "of the general balance {} is held and {} charged, of the application's own {} is released",
        f"{_MOVES} SELECT m.ref, count(*) OVER (), m.held, m.charged, coalesce(o.released, 0)"
        " FROM moves m LEFT JOIN moves o ON o.ref = m.ref AND o.part = 0 WHERE m.part = 1"
        " AND (m.charged > m.held OR (m.charged > 0 AND o.released > 0) OR m.payer = o.payer)",
    ),
    _Rule(
        "failed", "{} is charged, and the usage record has the status {}",
        f"{_MOVES} SELECT m.ref, count(*) OVER (), m.charged, cast(u.status AS TEXT)"
        " FROM sums m JOIN usage u ON u.id = m.ref WHERE m.charged <> 0 AND u.status <> 200",
    ),
    _Rule(
        "failed", "{} is charged, and the task is {}",
        f"{_MOVES} SELECT m.ref, count(*) OVER (), m.charged, e.state"
        " FROM sums m JOIN endings e ON e.task_id = m.ref WHERE m.charged <> 0 AND e.state <> 'succeeded'",
    ),
    _Rule(
        "usage", "the record says held {}, charged {}, of that general {}; the ledger {}, {}, {}",
        f"{_MOVES} SELECT u.id, count(*) OVER (), u.original_amount, u.deducted_amount, u.deducted_general,"
        " coalesce(m.held, 0), coalesce(m.charged, 0), coalesce(m.general, 0)"
        " FROM usage u LEFT JOIN sums m ON m.ref = u.id WHERE u.id >= $1 AND u.id < $2"
        " AND (u.original_amount <> coalesce(m.held, 0) OR u.deducted_amount <> coalesce(m.charged, 0)"
        " OR u.deducted_general <> coalesce(m.general, 0))",
    ),
    _Rule(
        "usage", "{} was charged, {} units at {} succeeded, and the status is {}",
        "SELECT u.id, count(*) OVER (), u.deducted_amount, cast(u.units AS TEXT), u.price, cast(u.status AS TEXT)"
        " FROM usage u WHERE u.id >= $1 AND u.id < $2 AND ((u.status = 200) <> (u.code IS NULL)"
        " OR (u.status <> 200 AND u.units <> 0) OR u.deducted_amount <> u.price * u.units)",
    ),
    _Rule(
        "usage", "{} was held and {} charged, and there is no record",
        f"{_MOVES} SELECT m.ref, count(*) OVER (), m.held, m.charged FROM sums m"
        f" WHERE NOT {_IS_OPEN} AND NOT EXISTS (SELECT 1 FROM usage u WHERE u.id = m.ref)",
    ),
    _Rule(
        "endings", "the task {}, and its usage record has the status {}",
        "SELECT e.task_id, count(*) OVER (), e.state, coalesce(cast(u.status AS TEXT), 'of none')"
        " FROM endings e LEFT JOIN usage u ON u.id = e.task_id WHERE e.task_id >= $1 AND e.task_id < $2"
        " AND (u.id IS NULL OR (e.state = 'succeeded') <> (u.status = 200))",
    ),
)  # fmt: skip
"""What is asked of every range of tasks, `$1` to `$2`."""

_OF_ALL = (
    _Rule(
        "queue", "the task holds {} and {} of the general balance, the ledger {} and {}, {} in all were agreed",
        "WITH moves AS (SELECT l.ref, cast(sum(CASE l.part WHEN 0 THEN l.amount ELSE 0 END) AS BIGINT) AS own,"
        " cast(sum(CASE l.part WHEN 1 THEN l.amount ELSE 0 END) AS BIGINT) AS general,"
        " max(CASE l.part WHEN 0 THEN l.application_id END) AS own_id,"
        " max(CASE l.part WHEN 1 THEN l.application_id END) AS general_id,"
        " sum(CASE l.kind WHEN 'hold' THEN 0 ELSE 1 END) AS others"
        " FROM queue q CROSS JOIN ledger l WHERE l.ref = q.task_id GROUP BY l.ref)"
        " SELECT q.task_id, count(*) OVER (), q.held, q.held_general, coalesce(m.own, 0), coalesce(m.general, 0),"
        " q.price * q.units"
        " FROM queue q LEFT JOIN moves m ON m.ref = q.task_id LEFT JOIN tasks t ON t.id = q.task_id"
        " WHERE q.held <> coalesce(m.own, 0) OR q.held_general <> coalesce(m.general, 0)"
        " OR q.price * q.units <> q.held + q.held_general OR m.others > 0 OR t.id IS NULL"
        " OR m.own_id <> t.application_id OR (m.general > 0 AND coalesce(q.general_id, '') <> m.general_id)",
    ),
    _Rule(
        "endings", "the task is open, and it has an ending or a usage record",
        "SELECT q.task_id, count(*) OVER () FROM queue q WHERE EXISTS (SELECT 1 FROM endings e"
        " WHERE e.task_id = q.task_id) OR EXISTS (SELECT 1 FROM usage u WHERE u.id = q.task_id)",
    ),
    _Rule(
        "held", "{} is held of the balance, and the open tasks hold {}",
        "SELECT application_id, count(*) OVER (), cast(sum(held) AS BIGINT), cast(sum(wanted) AS BIGINT) FROM ("
        "SELECT application_id, held, 0 AS wanted FROM balances"
        " UNION ALL SELECT t.application_id, 0, q.held FROM queue q CROSS JOIN tasks t WHERE t.id = q.task_id"
        " UNION ALL SELECT general_id, 0, held_general FROM queue WHERE held_general <> 0"
        ") AS sums GROUP BY application_id HAVING sum(held) <> sum(wanted)",
    ),
    _Rule(
        "held", "{} is held by the credential, and its open tasks hold {}",
        "SELECT credential_id, count(*) OVER (), cast(sum(held) AS BIGINT), cast(sum(wanted) AS BIGINT) FROM ("
        "SELECT credential_id, held, 0 AS wanted FROM spending"
        " UNION ALL SELECT t.credential_id, 0, q.held + q.held_general FROM queue q CROSS JOIN tasks t"
        " WHERE t.id = q.task_id"
        ") AS sums GROUP BY credential_id HAVING sum(held) <> sum(wanted)",
    ),
    _Rule(
        "left", "granted {}, used {}, held {}",
        "SELECT application_id, count(*) OVER (), cast(sum(granted) AS BIGINT), cast(sum(used) AS BIGINT),"
        " cast(sum(held) AS BIGINT) FROM balances GROUP BY application_id"
        " HAVING sum(granted - used - held) < 0 OR sum(used) < 0 OR sum(held) < 0",
    ),
    _Rule(
        "left", "used {}, held {}",
        "SELECT credential_id, count(*) OVER (), cast(sum(used) AS BIGINT), cast(sum(held) AS BIGINT) FROM spending"
        " GROUP BY credential_id HAVING sum(used) < 0 OR sum(held) < 0",
    ),
)  # fmt: skip
"""What is asked once, of all that is open and of the sums."""


async def _range(db: Database, report: Report, begin: str, until: str, rows: _Rows) -> None:
    if rows.ledger or rows.usage or rows.endings:
        for rule in _OF_RANGE:
            await _ask(db, report, rule, begin, until)
    for check, looked in (("holds", rows.ledger), ("tasks", rows.ledger), ("general", rows.ledger),
                          ("failed", rows.usage), ("usage", rows.usage), ("endings", rows.endings)):  # fmt: skip
        report.add(check, looked)


async def _ask(db: Database, report: Report, rule: _Rule, *args: str) -> None:
    found: list[Row] = await db.scan(f"{rule.sql} ORDER BY 1 LIMIT {MOST}", *args)
    problems = [Problem(rule.check, str(row[0]), rule.words.format(*map(_word, row[2:]))) for row in found]
    report.add(rule.check, 0, problems, found[0][1] if found else 0)


def _word(value: object) -> str:
    return shown(value) if isinstance(value, int) else str(value)
