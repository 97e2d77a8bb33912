"""`/llms.txt` and `/docs` say all that the catalogue says, are well-formed, and take no text for anything else."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from bide.api import pages_examples, pages_general, pages_html, pages_markdown, pages_prices
from bide.api.openapi import document
from bide.api.pages import blocks
from bide.api.pages_blocks import Block, Bullets, Code, Entry, Grid, Heading, Index, Paragraph, Routes, anchor
from bide.catalog.load import Catalog, Operation, load
from bide.errors import ERRORS
from bide.settings import Settings
from tests.contract import check_answer
from tests.services.bodies import everything, operations
from tests.services.world import Shop, serve

SETTINGS = Settings(public_url="https://gateway.example.com")
VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return load([everything(tmp_path_factory.mktemp("services"))])


class Parsed(HTMLParser):
    """A page taken apart, tag by tag; whatever is not closed in the order it was opened is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len({name for name, _ in attrs}) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def both(catalog: Catalog) -> tuple[str, str]:
    content = blocks(catalog, SETTINGS)
    return pages_markdown.page(content), pages_html.page("reference", content)


def section(text: str, operation: Operation) -> str:
    return text.split(f"\n`POST {operation.paths[0]}`")[1].split("\n### ")[0].split("\n## ")[0]


def test_every_operation_path_and_field_is_on_both_pages(catalog: Catalog) -> None:
    markdown, html = both(catalog)
    for operation in operations(catalog):
        text = section(markdown, operation)
        begins = html.index(f'<h3 id="{anchor(operation.service, operation.path)}">')
        part = html[begins : html.index("<h3", begins + 3)]
        for path in operation.paths:
            assert path in part
            assert path in text or path == operation.paths[0]
        for name, field in operation.fields.items():
            assert f"| `{name}`" in text
            assert f'<td data-of="field"><code>{name}</code>' in part
            for value in field.enum or ():
                assert f"`{value}`" in text
                assert f"<code>{value}</code>" in part
    for path in catalog.tasks_paths:
        assert path in markdown
        assert path in html


def test_every_error_and_the_order_of_errors_is_on_both_pages(catalog: Catalog) -> None:
    for text in both(catalog):
        for code, error in ERRORS.items():
            assert code in text
            assert error.meaning.split("'")[0] in text.replace("&lt;", "<").replace("\\<", "<")
        assert text.index("of this order") < text.index("token_mismatched", text.index("of this order"))


def test_the_page_is_well_formed_and_every_link_leads_to_a_heading_of_its_own(catalog: Catalog) -> None:
    _, html = both(catalog)
    parsed = Parsed(html)
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"] for tag, attrs in parsed.tags if tag == "a"]
    assert {one for one in links if one is None or one.removeprefix("#") not in ids} == set()
    headings = [attrs["id"] for tag, attrs in parsed.tags if tag in ("h1", "h2", "h3")]
    assert {f"#{one}" for one in headings} <= set(links)


def test_the_page_needs_nothing_else(catalog: Catalog) -> None:
    parsed = Parsed(both(catalog)[1])
    assert {tag for tag, _ in parsed.tags} & {"script", "link", "img", "iframe", "object", "form"} == set()
    for _, attrs in parsed.tags:
        assert {name for name in attrs if name.startswith("on") or name in ("src", "style")} == set()
    assert "url(" not in pages_html.page("x", [])
    assert "@import" not in pages_html.page("x", [])


HOSTILE = "</style></code><script>alert(1)</script> & \"quoted\" | cell `tick <b>` \n\n# heading\n```\nfence"


def test_no_text_becomes_anything_but_text() -> None:
    content: list[Block] = [
        Heading(2, HOSTILE, 'a"><script>'), Paragraph(HOSTILE), Bullets((HOSTILE,)), Grid((HOSTILE,), ((HOSTILE,),)),
        Code(HOSTILE, '"><script>', HOSTILE), Routes(HOSTILE, (HOSTILE, HOSTILE)), Heading(3, HOSTILE, "'><script>"),
        Index((("'><script>", HOSTILE, (Entry('"><script>', HOSTILE, HOSTILE),)),)),
    ]  # fmt: skip
    parsed = Parsed(pages_html.page(HOSTILE, content))
    assert {"script", "b"} & {tag for tag, _ in parsed.tags} == set()
    assert [tag for tag, _ in parsed.tags].count("style") == 1
    markdown = pages_markdown.page([one for one in content if not isinstance(one, Code)])
    assert [line for line in markdown.splitlines() if line.startswith(("# ", "```"))] == []
    assert len([line for line in markdown.splitlines() if line.startswith("| ")]) == 3
    assert "<script>" not in re.sub("`[^`]*`", "", markdown).replace("\\<script>", "")
    fenced = pages_markdown.page([Code("title", "sh", "```\n# not a heading\n````")])
    assert fenced.splitlines()[2] == "`````sh"
    assert fenced.splitlines()[-1] == "`````"


def test_texts_of_an_operators_file_are_escaped(tmp_path: Path) -> None:
    """Whatever text a file can hold: titles, descriptions, values, examples."""
    text = json.dumps("<script>alert(1)</script> '$(id)' \"x\" </code>")
    (tmp_path / "mine.toml").write_text(
        f"""
        name = "mine"
        title = {text}
        summary = {text}
        free = true
        [operations."things"]
        type = "things"
        api_id = "00000000-1111-2222-3333-444444444444"
        title = {text}
        summary = {text}
        capability = "image.generate"
        inline = true
        inline_stored = true
        run_s_max = 10
        expected_s = 1
        answer = {{ said = {text} }}
        [operations."things".fields.prompt]
        type = "string"
        required = true
        example = {text}
        default = {text}
        description = {text}
        [operations."things".fields.kind]
        type = "string"
        enum = [{text}]
        description = "x"
        """,
        "utf-8",
    )
    catalog = load([tmp_path])
    markdown, html = both(catalog)
    parsed = Parsed(html)
    assert "script" not in {tag for tag, _ in parsed.tags}
    operation = catalog.by_path["/mine/things"]
    example = pages_examples.python(operation, pages_examples.body(operation))
    assert compile(example, "example", "exec")
    command = pages_examples.curl("/mine/things", {"prompt": "it's $(id)"})
    assert command.endswith("""'{\n  "prompt": "it'\\''s $(id)"\n}'""")
    assert "| <" not in markdown


# -- prices


def costs(operation: Operation) -> list[tuple[str, ...]]:
    return [row for block in pages_prices.prices(operation) if isinstance(block, Grid) for row in block.rows]


def test_every_price_that_may_be_shown_is_on_both_pages_in_the_words_of_the_catalogue(catalog: Catalog) -> None:
    markdown, html = both(catalog)
    for operation in operations(catalog):
        begins = html.index(f'<h3 id="{anchor(operation.service, operation.path)}">')
        part, text = html[begins : html.index("<h3", begins + 3)], section(markdown, operation)
        rows = costs(operation)
        assert len(rows) == len(operation.prices_shown)
        for (cost, remark, when), rule in zip(rows, operation.prices_shown, strict=True):
            assert remark == rule.get("remark", "")
            assert f"| {cost} | {remark} | {when} |" in text
            assert remark in part
            assert "{" not in cost + when, "a rule of the package has words"
            if isinstance(rule["consumption"], int | float) and "per" not in rule:
                assert float(cost) == rule["consumption"]


def test_a_price_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        """
        name = "mine"
        title = "Mine"
        summary = "Things."
        [[prices.all]]
        conditions = { and = [{ "==" = [{ var = "hd" }, true] }, { "!" = [{ in = [{ var = "k" }, ["a", "b"]] }] }] }
        consumption = 0.000001
        per = "n"
        remark = "fine ones"
        [[prices.all]]
        conditions = { ">=" = [{ var = ["n", 1] }, 4] }
        consumption = 7
        hidden = true
        [[prices.all]]
        conditions = { or = [{ var = "hd" }, { "!=" = [{ var = "k" }, "a"] }] }
        consumption = { if = [{ "<" = [{ var = "n" }, 3] }, 1500, { "+" = [1, { "*" = [0.25, { var = "n" }] }] }] }
        [[prices.all]]
        consumption = { max = [1, { var = "n" }] }
        [operations.things]
        prices = "all"
        type = "things"
        api_id = "00000000-1111-2222-3333-444444444444"
        title = "Make things"
        summary = "Makes things."
        capability = "image.generate"
        inline = true
        inline_stored = true
        run_s_max = 10
        expected_s = 1
        answer = { said = "x" }
        [operations.things.fields]
        hd = { type = "boolean", description = "x" }
        k = { type = "string", description = "x" }
        n = { type = "integer", min = 1, max = 9, description = "x" }
        """,
        "utf-8",
    )
    assert costs(load([tmp_path]).by_path["/mine/things"]) == [
        ("0.000001 × `n`", "fine ones", "`hd` is `true` and not (`k` is `a` or `b`)"),
        ("1,500 if `n` is less than 3, else 1 + (0.25 × `n`)", "", "`hd` or `k` is not `a`"),
        ('`{"max": [1, {"var": "n"}]}`', "", "otherwise"),
    ]


def test_of_what_has_no_price_to_show_the_page_says_how_to_ask(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        """
        name = "mine"
        title = "Mine"
        summary = "Things."
        free = true
        [operations.things]
        type = "things"
        api_id = "00000000-1111-2222-3333-444444444444"
        title = "Make things"
        summary = "Makes things."
        capability = "image.generate"
        inline = true
        inline_stored = true
        run_s_max = 10
        expected_s = 1
        answer = { said = "x" }
        [operations.things.fields.prompt]
        type = "string"
        description = "x"
        """,
        "utf-8",
    )
    (said,) = pages_prices.prices(load([tmp_path]).by_path["/mine/things"])
    assert isinstance(said, Paragraph)
    assert "`dry_run`" in said.text


# -- examples


def test_every_example_passes_the_checks_and_its_answers_are_as_the_document_says(catalog: Catalog) -> None:
    described = json.loads(json.dumps(document(catalog, SETTINGS, "1")))
    for operation in operations(catalog):
        asked = pages_examples.body(operation)
        operation.check(asked)
        done = pages_examples.response(operation, asked)
        answers: list[Any] = [pages_examples.answer(operation, done)]
        for answer in answers:
            raw, headers = json.dumps(answer).encode(), {"content-type": "application/json", "x-trace-id": "x"}
            check_answer(described, "POST", operation.paths[0], 200, headers, raw)
        if "callback_url" in operation.fields:
            posted = pages_examples.callback(operation, done, SETTINGS)
            named = described["paths"][operation.paths[0]]["post"]["callbacks"]["finished"]
            (path,) = named.values()
            schema = path["post"]["requestBody"]["content"]["application/json"]["schema"]
            Draft202012Validator({**schema, "components": described["components"]}).validate(posted)


def test_every_block_of_json_and_python_is_well_formed(catalog: Catalog) -> None:
    for block in blocks(catalog, SETTINGS):
        if isinstance(block, Code) and block.language == "json":
            json.loads(block.text)
        if isinstance(block, Code) and block.language == "python":
            compile(block.text, block.title, "exec")


def test_every_row_of_a_table_says_something(catalog: Catalog) -> None:
    for block in pages_general.chapters(catalog, SETTINGS):
        for row in block.rows if isinstance(block, Grid) else ():
            assert all(row), row


# -- as they are served


def test_the_pages_are_served_with_what_keeps_a_browser_from_more(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        for path, kind in (("/docs", "text/html"), ("/llms.txt", "text/markdown")):
            answer = await shop.mine.request("GET", path, base="")
            check_answer(shop.document, "GET", path, answer.status, answer.headers, answer.body)
            assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
            assert answer.headers["x-content-type-options"] == "nosniff"
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "unsafe" not in policy
            assert answer.headers["cache-control"] == "no-cache"
            assert b"http://gateway.test/openai/images/generations" in answer.body
            assert b"bide.invalid" not in answer.body
            again = await shop.mine.request("GET", path, base="")
            assert again.headers["etag"] == answer.headers["etag"]
            assert again.body == answer.body

    serve(on_both, test)


def test_the_style_is_the_one_the_policy_allows(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = await shop.mine.request("GET", "/docs", base="")
        assert f"style-src 'sha256-{pages_html.STYLE_HASH}'" in answer.headers["content-security-policy"]

    serve(on_both, test)


def test_an_address_in_the_settings_is_the_one_in_the_examples(on_both: Settings) -> None:
    async def test(shop: Shop) -> None:
        answer = await shop.mine.request("GET", "/docs", base="")
        assert b"https://media.example.com/a&amp;b/openai/images/generations" in answer.body

    serve(on_both, test, public_url="https://media.example.com/a&b")
