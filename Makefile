# `make demo` and `make test` need Python 3.11 or later and nothing else: every target makes the
# virtual environment it runs in.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# ARGS reach the program that a target runs: make test ARGS="-k router", make demo ARGS="--port 9000"
ARGS ?=

# The versions that tests/*.txt say, each with its Python: PATH's, pyenv's, or one that .ci/run got.
VERSIONS = oldest python3.12 python3.13 newest
PYTHON_OLDEST ?= $(shell .ci/python 3.11)
PYTHON_NEWEST ?= $(shell .ci/python 3.14)
PYTHON_OF_oldest = $(PYTHON_OLDEST)
PYTHON_OF_python3.12 = $(shell .ci/python 3.12)
PYTHON_OF_python3.13 = $(shell .ci/python 3.13)
PYTHON_OF_newest = $(PYTHON_NEWEST)

# A package of npm that holds the program and nothing else: no script has to fetch it.
NODE_22 = node-$$(node -p '`$${process.platform}-$${process.arch}`')@22

.PHONY: demo demo-kanban test $(VERSIONS) js-test bench instructions lint format docs docs-test clean

demo: $(VENV)/demo.stamp
	$(BIN)/python demo/manage.py demo $(ARGS)

demo-kanban: $(VENV)/demo.stamp
	cd demo/kanban/front && npm install --loglevel=error && npm run build
	$(BIN)/python demo/manage.py demo --page kanban/ $(ARGS)

test: $(VENV)/test.stamp
	$(BIN)/python -m tests $(ARGS)

$(VERSIONS): %: .venv-%/test.stamp
	TEST_VERSIONS=tests/$@.txt .venv-$@/bin/python -m tests $(ARGS)

js-test: $(VENV)/test.stamp
	cd js && npm install --no-audit --no-fund --loglevel=error && npm test
	cd js && npm exec --yes --package=$(NODE_22) -- node --test tests/*.test.js
	cd js && DEMO_PYTHON=../$(BIN)/python npm run integration

bench: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks $(ARGS)

instructions: $(VENV)/test.stamp
	$(BIN)/python -m benchmarks.instructions --guard

lint: $(VENV)/lint.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell $$(git ls-files)
	$(BIN)/python .ci/prose.py
	$(BIN)/mypy

format: $(VENV)/lint.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/docs.stamp
	$(BIN)/mkdocs build --strict $(ARGS)

docs-test: $(VENV)/docs.stamp $(VENV)/test.stamp
	$(BIN)/python -m pytest tests/whole/docs_site.py -r fEs $(ARGS)

clean:
	rm -rf .venv $(VERSIONS:%=.venv-%) build js/dist js/node_modules
	rm -rf demo/kanban/front/node_modules demo/kanban/static/kanban/dist

$(VENV)/%.stamp: setup.cfg setup.py pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[$*]"
	touch $@

.venv-%/test.stamp: tests/%.txt setup.cfg setup.py pyproject.toml
	test -n "$(PYTHON_OF_$*)" || { echo "There is no Python for $<: see .ci/python." >&2; exit 1; }
	test -x $(@D)/bin/python || $(PYTHON_OF_$*) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check \
		--constraint $< --editable ".[test]"
	touch $@
