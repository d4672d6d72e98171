# One environment for everything: .venv, exactly what requirements.lock pins.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help quick test check clean

help:  ## these lines
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/'

.venv/installed: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 quick")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

quick: .venv/installed  ## train and report the quick suite on embedded data, in minutes
	$(BIN)/python -m benchmark run --suite quick
	$(BIN)/python -m benchmark report

test: .venv/installed  ## all fast tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4

check: .venv/installed  ## format, lint, types, and the tests that need no training
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/heads tests/test_layers.py tests/benchmark/planning

clean:  ## remove the environment and all caches; records and findings stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
