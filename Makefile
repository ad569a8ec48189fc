# `make` lists the targets. `make test` and `make demo` set everything up themselves: they need Python 3.11 or
# newer, git and make. Another interpreter: make install PYTHON=python3.13

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PYTHON ?=
# Tests wait for processes half of their time, so there are more workers than two cores; more than four gain nothing
# and cost memory.
PYTEST_WORKERS ?= -n $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 3 ? 3 : 4))) --dist loadfile
COMPILE_LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-annotate --no-header --no-emit-index-url --extra delta --extra postgres --group dev \
	pyproject.toml --output-file requirements.lock

.DEFAULT_GOAL := help
.PHONY: help install demo demo-team test check chaos format schemas lock upgrade bench build clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED) ## .venv with the locked dependencies and .venv/bin/mlops

demo: $(INSTALLED) ## the Seattle weather example, from data to production and back, then watched
	$(BIN)/python examples/seattle-weather/demo.py

demo-team: $(INSTALLED) ## three people, approvals by signed tags, a champion, a failing gate, a rollback
	$(BIN)/python examples/team/demo.py

test: $(INSTALLED) ## every test; one file: make test ARGS=tests/test_packaging.py
	$(BIN)/python -m pytest $(PYTEST_WORKERS) $(ARGS)

check: $(INSTALLED) ## ruff, mypy --strict, import layers, stale schemas
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m mlops.resources.schema schemas/ --check
	$(BIN)/python -m mlops.resources.reference docs/reference --check

chaos: $(INSTALLED) ## a daemon under 3,000 faults, an hour or so; less: make chaos ARGS="--seed 7 --faults 100"
	$(BIN)/python -m tests.chaos $(or $(ARGS),--faults 3000)

format: $(INSTALLED) ## ruff's fixes and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

schemas: $(INSTALLED) ## schemas/*.json from the resource models
	$(BIN)/python -m mlops.resources.schema schemas/

lock: $(INSTALLED) ## requirements.lock from pyproject.toml, keeping what already fits
	$(COMPILE_LOCK)

upgrade: $(INSTALLED) ## requirements.lock with the newest versions that pyproject.toml allows
	$(COMPILE_LOCK) --upgrade

bench: $(INSTALLED) ## every benchmark, written into docs/benchmarks.md
	$(BIN)/python benchmarks/all.py --write docs/benchmarks.md

build: $(INSTALLED) ## dist/*.whl and dist/*.tar.gz
	$(BIN)/uv build

clean: ## everything that make made
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(INSTALLED): requirements.lock pyproject.toml
	@set -eu; \
	usable='import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'; \
	python=; \
	for candidate in $(PYTHON) $(if $(PYTHON),,python3.11 python3.12 python3.13 python3 python); do \
		if "$$candidate" -c "$$usable" >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "No Python 3.11 or newer with its venv module is on PATH. Install one (Debian, Ubuntu:" >&2; \
		echo "apt install python3-venv), or say which: make install PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	if [ -n "$(PYTHON)" ] || ! $(BIN)/python -c "$$usable; import pip" >/dev/null 2>&1; then \
		echo "Making $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV); \
	fi; \
	awk '/^[^ ]/ { ours = /^uv==/ } ours' requirements.lock > $(VENV)/uv.lock; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock; \
	index=$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null || true)}}; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock; \
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .; \
	touch $@; \
	echo "Installed: $(BIN)/mlops"
