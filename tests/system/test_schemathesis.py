"""schemathesis makes requests out of `/openapi.json`, right and wrong ones: no 500, no undocumented answer."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.control import SkipTest

from tests.system.processes import TOKEN, Process, running

EXAMPLES, FEW = 10, 2
"""Requests per path and mode: of the service with code of its own, and of those that are data and share theirs."""
NOT_MADE_UP = {"/suno/audios"}
"""Paths whose rules between fields are more than the tool can invent requests for: `tests/services/test_suno.py`."""
load_all_checks()
NOT_CHECKED = {
    "positive_data_acceptance": "picture sizes have an arithmetic that no schema can say",
    "negative_data_rejection": "unknown fields are kept, and a null is a field left out",
    "ignored_auth": "test_wire.py holds the order of errors",
    "missing_required_header": "test_wire.py holds the order of errors",
    "unsupported_method": "test_wire.py holds it; it would be asked once per example here",
}
"""Checks that do not apply here, and why."""


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running("serve", tmp_path_factory.mktemp("schemathesis")) as process:
        yield process


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_that_the_document_can_tell_of_gets_an_answer_it_does_not_tell_of(
    serve: Process, mode: GenerationMode
) -> None:
    generation = GenerationConfig(modes=[mode], allow_x00=False, deterministic=True)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    schema = schemathesis.openapi.from_url(f"{serve.url}/openapi.json", config=config)
    unwanted: list[Any] = [CHECKS.get_one(name) for name in NOT_CHECKED]
    asked = 0
    operations = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]  # all can be read
    paths = {operation.path for operation in operations}

    for operation in operations:
        if operation.path in NOT_MADE_UP or operation.path.removeprefix("/v1") in paths - {operation.path}:
            continue  # the second: another spelling of the same path

        examples = EXAMPLES if operation.path.startswith("/openai/") else FEW

        @settings(max_examples=examples, deadline=None, derandomize=True, database=None,
                  phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            headers = {"authorization": f"Bearer {TOKEN}"}
            case.call_and_validate(headers=headers, excluded_checks=unwanted, timeout=20)

        with contextlib.suppress(SkipTest):  # a path without body and parameters cannot be asked wrongly
            ask()
    assert asked > 50
