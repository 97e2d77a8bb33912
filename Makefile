# `make help` says what there is. A fresh machine needs CPython 3.11+, pip, make and git; all else is set up here.

PYTHON ?= python3
ARGS ?=
TESTS ?=

BOOTSTRAP = $(PYTHON) tools/bootstrap.py
RUN = .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help serve demo test lint docs bench lock clean

help:  ## this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

serve:  ## run the gateway; ARGS="--port 9000" are passed on
	@$(BOOTSTRAP) run
	@exec .venv/bin/bide serve $(ARGS)

demo:  ## see a task from its submission to its callback, then stop
	@$(BOOTSTRAP) run
	@exec .venv/bin/bide demo $(ARGS)

test:  ## run all tests; TESTS="tests/flow -k lease" runs some
	@$(BOOTSTRAP) dev
	@$(RUN) -m pytest -n auto --dist loadfile $(TESTS) $(ARGS)

lint:  ## ruff and mypy
	@$(BOOTSTRAP) dev
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy

docs:  ## write docs/reference anew from the code
	@$(BOOTSTRAP) dev
	@$(RUN) tools/reference.py

bench:  ## measure, and print a table
	@$(BOOTSTRAP) dev
	@$(RUN) -m bench $(ARGS)

lock:  ## make the lock files anew from pyproject.toml
	@$(BOOTSTRAP) lock

clean:  ## remove the environment and what tools left behind; bide-data stays
	rm -rf .venv .bootstrap .mypy_cache .ruff_cache .hypothesis .pytest_cache dist bench/out
	find src tests bench tools examples -name __pycache__ -type d -prune -exec rm -rf {} +
