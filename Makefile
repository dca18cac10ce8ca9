# `make run` starts the service, `make check test` verifies a change. Each target installs what it needs first.

PORT ?= 8000
DATA_DIR ?= data
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup run check test test-fast test-gpu fuzz bench reference wheelhouse

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt pip setuptools
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	touch $(READY)

run: setup
	$(BIN)/wan22-tiny make '$(DATA_DIR)/models'
	$(BIN)/wan22 serve --port $(PORT) --data-dir '$(DATA_DIR)'

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# tests/conftest.py distributes the tests over the processes.
PARALLEL := --numprocesses auto --no-loadscope-reorder

test: setup
	$(BIN)/python -m pytest $(PARALLEL)

# The unit tests that start no service and run no model for long.
test-fast: setup
	$(BIN)/python -m pytest $(PARALLEL) -m 'not gpu and not slow' tests/unit

test-gpu: setup
	$(BIN)/python -m pytest -m gpu

# At least 2,000 requests that schemathesis makes from the OpenAPI document, to a running service.
fuzz: setup
	WAN22_SCHEMATHESIS_CASES=2000 $(BIN)/python -m pytest --timeout 3600 tests/integration/test_openapi.py

bench: setup
	for file in benchmarks/[a-z]*.py; do $(BIN)/python $$file || exit 1; done

# Writes docs/reference/{http,cli,configuration}.md from the code, without starting Ray.
reference: setup
	$(BIN)/python docs/reference/generate.py

# The wheels for a GPU machine without a network: docs/how-to/offline-gpu.md.
PYTHON_VERSION ?= 3.12
WHEELHOUSE_MIB := 56

wheelhouse: setup
	rm -rf wheelhouse
	$(BIN)/python -m pip download --quiet --dest wheelhouse --no-deps --only-binary :all: \
		--python-version $(PYTHON_VERSION) --constraint constraints.txt --requirement wheelhouse.txt
	du --total --block-size 1K wheelhouse/*.whl | awk 'END { mib = $$1 / 1024; \
		printf "%.1f MiB of at most $(WHEELHOUSE_MIB) MiB in wheelhouse/\n", mib; exit mib > $(WHEELHOUSE_MIB) }'
