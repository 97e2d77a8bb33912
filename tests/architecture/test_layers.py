"""The rules that keep the tree readable, each in a few lines.

    cli                                                   the terminal: starts everything
    app                                                   composition: server, worker
    api  console                                          the edges: HTTP, HTML
    flow                                                  verbs: decide and order
    gateway                                               the parts of a process, as one value
    tasks accounts credits rates                          nouns: SQL, tables, pure rules
    callbacks channels catalog storage
    providers                                             dialects of upstreams
    db                                                    connections, batches, transactions
    outbound                                              HTTP to the outside, guarded
    clock errors settings log metrics                     the floor
"""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import bide

ROOT = Path(bide.__file__).parent
LAYERS = [
    {"clock", "errors", "settings", "log", "metrics"},
    {"outbound"},
    {"db"},
    {"providers"},
    {"tasks", "accounts", "credits", "rates", "callbacks", "channels", "catalog", "storage"},
    {"gateway"},
    {"flow"},
    {"api", "console"},
    {"app"},
    {"cli"},
    {"__main__"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}

VERBS = {"submit", "work", "settle", "callback", "poll", "sweep"}
HELPERS = {
    "inputs", "references", "results", "running", "leased", "removal", "progress", "slots",
    "polling", "heard", "recover", "copying", "expected",
}  # fmt: skip
"""What verbs share: pictures in, earlier results, files out, a task in hand, writes under a lease, what goes with a
task, how far one is, whose turn it is; and what is asked of an upstream that took it: when, called by whom, what was
lost, its files, how long such work takes. They know no verb."""
JOINS = {"waiting": {"submit", "work"}, "cancel": {"settle"}, "erase": {"cancel"}, "unknown": {"settle"}}
"""A caller that stays: the one place where submit is followed by work in the same process. And endings that somebody
asked for, and what must end before a person is forgotten. For the edges alone."""

FILES = sorted(ROOT.rglob("*.py"))
FILE_LINES_MAX = 420  # "about 400"
FUNCTION_LINES_MAX = 60

TABLES = {
    "users": {"accounts.store", "accounts.users", "accounts.erasure"},
    "applications": {"accounts.store", "accounts.applications", "accounts.credentials", "accounts.erasure"},
    "credentials": {"accounts.store", "accounts.credentials", "accounts.erasure"},
    "tasks": {"tasks.store", "tasks.search", "tasks.purge", "tasks.inspect", "credits.audit"},
    "task_counts": {"tasks.store", "tasks.search", "tasks.inspect"},
    "channels": {"channels.store"},
    "channel_locks": {"tasks.waiting"},
    "queue": {
        "tasks.store", "tasks.waiting", "tasks.turns", "tasks.handed", "tasks.followed", "tasks.inspect",
        "tasks.purge", "credits.audit",
    },
    "durations": {"tasks.durations"},
    "endings": {"tasks.store", "tasks.purge", "tasks.inspect", "credits.audit"},
    "files": {"tasks.store", "tasks.purge", "tasks.inspect"}, "idempotency": {"tasks.store", "tasks.purge"},
    "items": {"tasks.items"},
    "attempts": {"tasks.attempts"}, "deliveries": {"callbacks.store"}, "delivery_attempts": {"callbacks.store"},
    "ledger": {"credits.ledger", "credits.granting", "credits.audit"},
    "balances": {"credits.ledger", "credits.audit"}, "spending": {"credits.ledger", "credits.audit"},
    "usage": {"credits.usage", "accounts.erasure", "credits.audit"},
    "platform_tokens": {"accounts.platform", "accounts.erasure"}, "erasures": {"accounts.erasure"},
    "schema_versions": {"db", "db.sqlite", "db.postgres", "db.migrate"},
}  # fmt: skip
"""Who may name a table in SQL."""


def name_of(path: Path) -> str:
    """`bide/tasks/store.py` → `tasks.store`; the package itself is the empty name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [one for one in ast.walk(tree(path)) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]


MODULES = {name_of(path): path for path in FILES}
CODE = {name: path for name, path in MODULES.items() if name}


def imports(path: Path) -> set[str]:
    """Modules of the package that a module imports, relative to it."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are written out in full"
            inside = (node.module or "").removeprefix("bide").removeprefix(".")
            for alias in node.names:
                whole = f"{inside}.{alias.name}".removeprefix(".")
                found.add(f"bide.{whole if whole in MODULES else inside}" if is_ours(node.module) else "")
    return {one.removeprefix("bide.") for one in found if is_ours(one)} & set(CODE)


def is_ours(module: str | None) -> bool:
    return module == "bide" or (module or "").startswith("bide.")


def of_flow(name: str) -> set[str]:
    """Modules of `flow` that one of them imports."""
    return {one.removeprefix("flow.") for one in imports(CODE[f"flow.{name}"]) if one.startswith("flow.")}


@pytest.mark.parametrize("name", CODE)
def test_every_module_has_its_place_in_the_layers_and_imports_point_down(name: str) -> None:
    part = name.partition(".")[0]
    assert part in LEVEL, f"{part} has no place in the list of layers"
    for other in imports(CODE[name]):
        below = other.partition(".")[0]
        assert below == part or LEVEL[below] <= LEVEL[part], f"{name} imports {other}, which is above it"


def test_no_import_goes_round_in_a_circle() -> None:
    sorter = TopologicalSorter({name: imports(path) - {name} for name, path in CODE.items()})
    sorter.prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize("name", CODE)
def test_no_function_imports_anything(name: str) -> None:
    for function in functions(CODE[name]):
        for node in ast.walk(function):
            assert not isinstance(node, ast.Import | ast.ImportFrom), f"{name}.{function.name} imports something"


def test_verbs_talk_through_rows_and_never_call_each_other_except_that_work_settles() -> None:
    assert {name.removeprefix("flow.") for name in CODE if name.startswith("flow.")} == VERBS | HELPERS | set(JOINS)
    for verb in VERBS:
        allowed = HELPERS | ({"settle"} if verb == "work" else set())
        assert of_flow(verb) <= allowed, f"{verb} calls {of_flow(verb) - allowed}"
    for helper in HELPERS:
        assert of_flow(helper) <= HELPERS
    for join, allowed in JOINS.items():
        assert of_flow(join) <= HELPERS | allowed


def providers() -> list[str]:
    """Names of the dialects: modules of `providers` that keep the contract."""
    return [
        name.removeprefix("providers.") for name, path in CODE.items()
        if name.startswith("providers.") and "submit" in {getattr(one, "name", "") for one in tree(path).body}
    ]  # fmt: skip


def everybody_but(*parts: str) -> list[str]:
    return [name for name in CODE if name.partition(".")[0] not in parts]


def test_the_dialects_are_found() -> None:
    assert {"sandbox", "openai_images"} <= set(providers())


SHAPES = {"api.schemas": {"openai_images"}}
"""Where the catalogue's name of a public answer is the same word as a dialect: the wire's, not an upstream's."""


@pytest.mark.parametrize("name", everybody_but("providers", "catalog"))
def test_nobody_but_providers_and_the_catalogue_names_a_dialect(name: str) -> None:
    """What a program says to people (docstrings, descriptions of settings) may name a dialect as an example."""
    words = set(re.findall(r"\w+", code_without_prose(CODE[name])))
    assert words & set(providers()) <= {"sandbox"} | SHAPES.get(name, set())


@pytest.mark.parametrize("name", everybody_but("providers", "catalog", "cli"))
def test_the_sandbox_is_a_channel_like_any_other_to_everybody_but_the_settings(name: str) -> None:
    texts = {node.value for node in ast.walk(tree(CODE[name])) if isinstance(node, ast.Constant)}
    assert "sandbox" not in texts


def code_without_prose(path: Path) -> str:
    """A module as text, without comments, docstrings and `description=…`."""
    module = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [
                one for one in node.body
                if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            ] or [ast.Pass()]  # fmt: skip
        elif isinstance(node, ast.Call):
            node.keywords = [one for one in node.keywords if one.arg not in {"description", "help"}]
    return ast.unparse(module)


def tables_in(path: Path) -> set[str]:
    """Tables that the SQL in a module's texts names."""
    constants = [node.value for node in ast.walk(tree(path)) if isinstance(node, ast.Constant)]
    texts = "\n".join(one for one in constants if isinstance(one, str))
    named = re.findall(r"\b(?:FROM|INTO|UPDATE|JOIN|TABLE(?: IF NOT EXISTS)?)\s+([a-z_]+)", texts)
    return set(named) & set(TABLES)


def test_the_list_of_tables_is_that_of_the_migrations() -> None:
    made = {
        table for path in (ROOT / "db" / "migrations").glob("*.sql")
        for table in re.findall(r"CREATE TABLE (\w+)", path.read_text("utf-8"))
    }  # fmt: skip
    assert made | {"schema_versions"} == set(TABLES)


@pytest.mark.parametrize("name", CODE)
def test_sql_that_names_a_table_lives_in_the_store_of_that_table(name: str) -> None:
    for table in tables_in(CODE[name]):
        assert name in TABLES[table], f"{name} has SQL about {table}, which is {TABLES[table]}'s"


def test_every_table_is_used_where_the_list_says() -> None:
    for table, owners in TABLES.items():
        assert any(table in tables_in(CODE[owner]) for owner in owners), f"nobody reads or writes {table}"


@pytest.mark.parametrize("name", CODE)
def test_files_and_functions_stay_short_enough_to_read(name: str) -> None:
    path = CODE[name]
    assert len(path.read_text("utf-8").splitlines()) <= FILE_LINES_MAX, f"{name} is too long"
    for function in functions(path):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{name}.{function.name} has {lines} lines"


def test_the_two_migrations_of_a_number_make_the_same_tables_columns_and_indexes() -> None:
    for path in (ROOT / "db" / "migrations").glob("*.sqlite.sql"):
        other = path.with_name(path.name.replace(".sqlite.", ".postgres."))
        assert shape_of(path.read_text("utf-8")) == shape_of(other.read_text("utf-8"))


def shape_of(sql: str) -> list[str]:
    """A migration in the words both databases share."""
    sql = re.sub(r"--.*", "", sql).replace(' COLLATE "C"', "")
    return re.sub(r"\b(BIGINT|INTEGER)\b", "INT", re.sub(r"\b(BYTEA|BLOB)\b", "BYTES", sql)).split()
