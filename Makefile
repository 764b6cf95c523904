# Two commands do everything: `make demo` and `make test`. Both install into $(VENV) first.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
# One thread per worker: two workers on two cores beat two threads fighting over both.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal $(WITHOUT_BROWSER)
# Some tests need a browser; where none is, and none can be installed, they are left out, and that is said.
WITHOUT_BROWSER = $(shell command -v chromedriver >/dev/null || \
	echo --ignore=tests/studio/test_browser.py --ignore=tests/docs/test_browser.py)

.PHONY: demo test test-full check fix docs install dev browser database clean

demo: install
	$(BIN)/infinitetalk demo

test: check browser database
	$(PYTEST) -m "not full"

test-full: check browser database
	$(PYTEST) -m "full or not full"

check: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_sizes.py

fix: dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documents' site, into build/site.
docs: dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

install: $(VENV)/.installed
dev: $(VENV)/.installed-dev

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; install one, or run make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV) (PyTorch is large; the first time takes minutes) ..."
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	@touch $@

# The page is tested in a real browser. It needs Debian's Chromium; without root nothing is installed behind your back.
browser:
	@if command -v chromedriver >/dev/null && command -v chromium >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing Chromium for the browser tests ..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium chromium-driver >/dev/null; \
	else echo "NOT RUN: browser tests (they need chromium and chromedriver on the PATH)"; fi

# The job store is tested on SQLite, and on PostgreSQL where a server is given.
database:
	@test -n "$$INFINITETALK_TEST_POSTGRES" || \
		echo "NOT RUN: tests with PostgreSQL (tools/with_postgres.sh make test runs them beside a server of its own)"

clean:
	rm -rf $(VENV) build dist output .pytest_cache .mypy_cache .ruff_cache
