# `make demo` and `make test` need Python 3.11 or later and nothing else: every target makes the
# virtual environment it runs in.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# ARGS reach the program that a target runs: make test ARGS="-k router", make demo ARGS="--port 9000"
ARGS ?=

.PHONY: demo test oldest bench lint format docs clean

demo: $(VENV)/demo.stamp
	$(BIN)/python demo/manage.py demo $(ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m tests $(ARGS)

oldest: .venv-oldest/test.stamp
	.venv-oldest/bin/python -m tests $(ARGS)

bench: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks $(ARGS)

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/lint.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/docs.stamp
	$(BIN)/mkdocs build --strict $(ARGS)

clean:
	rm -rf .venv .venv-oldest build

$(VENV)/%.stamp: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

.venv-oldest/test.stamp: setup.cfg pyproject.toml tests/oldest.txt
	test -x .venv-oldest/bin/python || $(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check \
		--constraint tests/oldest.txt --editable ".[test]"
	touch $@
