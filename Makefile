# Each target sets up what it needs: .venv with the project installed, again only when pyproject.toml has changed.
# Another interpreter: make PYTHON=python3.12 test
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
FUZZ_VENV := .venv-fuzz
TESTS ?= tests
# The whole suite runs in several processes (ARGS=-n0: in one). For a part of it, TESTS or -k, they cost more than they save.
WORKERS = $(if $(filter tests,$(TESTS)),$(if $(findstring -k ,$(ARGS)),,-n auto --dist worksteal))
ARGS ?=
# For `make gpu`: a folder of wheels that the Python lacks.
WHEELS ?=
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench gpu docs fuzz clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready-run  ## five processes classify a clip; only the speaker learns the label
	@$(BIN)/sottovoce demo $(ARGS)

test: $(VENV)/.ready-test  ## run the test suite (TESTS=tests/engine, ARGS='-k relu')
	@$(BIN)/python -m pytest $(WORKERS) $(TESTS) $(ARGS)

check: $(VENV)/.ready-dev  ## lint, formatting, types, import contract, links in the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python .ci/check_links.py

format: $(VENV)/.ready-dev  ## rewrite the code as ruff wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.ready-run  ## measure the paper's tables (many minutes; ARGS=--quick: one)
	@$(BIN)/sottovoce bench paper $(ARGS)

gpu:  ## check and time the CUDA kernels on this machine's GPU, with the Python that has CuPy (ARGS=--quick; docs/gpu.md)
	@WHEELS="$(WHEELS)" sh .ci/gpu $(ARGS)

docs: $(VENV)/.ready-run  ## check that every link in the docs leads somewhere
	@$(BIN)/python .ci/check_links.py

fuzz: $(FUZZ_VENV)/.ready  ## fuzz the ONNX importer for a minute (ARGS=-max_total_time=600)
	@$(FUZZ_VENV)/bin/python -m tests.fuzz.fuzz_onnx build/fuzz/corpus -artifact_prefix=build/fuzz/ -rss_limit_mb=2048 -timeout=60 \
		-max_total_time=60 -print_final_stats=1 $(ARGS)

clean:  ## remove the environment, caches and build outputs
	rm -rf $(VENV) $(FUZZ_VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installing more extras also satisfies the targets that need fewer.
$(VENV)/.ready-run: pyproject.toml .ci/venv
	@sh .ci/venv && touch $@

$(VENV)/.ready-test: pyproject.toml .ci/venv
	@sh .ci/venv test && touch $(VENV)/.ready-run $@

$(VENV)/.ready-dev: pyproject.toml .ci/venv
	@sh .ci/venv dev && touch $(VENV)/.ready-run $(VENV)/.ready-test $@

# atheris has wheels for some Python versions only, so it has an environment of its own: where that fails, nothing else does.
$(FUZZ_VENV)/.ready: pyproject.toml
	@$${PYTHON:-$$(sh .ci/find-python)} -m venv $(FUZZ_VENV) && $(FUZZ_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[fuzz]' && touch $@
