# One target a verb; `make` alone lists them.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help up demo test lint types imports format screens chaos bench wheel image lock clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  \1\t\2/' | expand -t 12

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed (PYTHON=…)"; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/runtime: .venv/made requirements.txt pyproject.toml
	$(PIP) install --quiet --use-pep517 --require-hashes -r requirements.txt
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/runtime requirements-dev.txt
	$(PIP) install --quiet --require-hashes -r requirements-dev.txt
	@touch $@

up: .venv/runtime  ## start everything on this machine; Ctrl-C stops it
	@$(BIN)/mailbase up

demo: .venv/runtime  ## play the main job against the running instance
	@$(BIN)/mailbase demo

test: .venv/dev lint types imports  ## lint, types, import direction and every test, on real servers
	@sh tests/tools.sh
	$(BIN)/python -m pytest -n $(shell $(PYTHON) -c 'import os; print((os.cpu_count() or 1) + 1)') --dist worksteal

lint: .venv/dev  ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/dev  ## mypy, strict
	$(BIN)/mypy

imports: .venv/dev  ## imports point down
	$(BIN)/lint-imports

format: .venv/dev  ## mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

screens: .venv/dev  ## take the pictures in docs/screens anew
	rm -rf docs/screens
	MAILBASE_SCREENS=docs/screens $(BIN)/python -m pytest -m browser

chaos: .venv/dev  ## 10,000 letters through kills, stops and a rough server, every row counted (SEED=, LETTERS=)
	PYTHONPATH=tests $(BIN)/python -m chaos $(if $(SEED),--seed $(SEED)) $(if $(LETTERS),--letters $(LETTERS))

BENCHES := signing sending imports pixel stats rest bounces scale forms embed

bench: .venv/dev  ## ratios against limits measured in the same run (bench/past.py and bench/warmup.py take longer: by hand)
	@missed=""; for name in $(BENCHES); do echo "== $$name"; $(BIN)/python bench/$$name.py || missed="$$missed $$name"; done; \
	[ -z "$$missed" ] || { echo "missed:$$missed"; exit 1; }

wheel: .venv/dev  ## build the wheel, install it into an empty environment and start it from there
	sh tests/packaging/wheel.sh

image: .venv/dev  ## run the container image's steps and commands in an empty root (root on Debian)
	sh tests/packaging/image.sh

lock:  ## write the requirements anew (needs uv)
	uv pip compile -q pyproject.toml --group build --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements.txt
	uv pip compile -q pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -o requirements-dev.txt

clean:  ## remove what was built; ./data stays
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
