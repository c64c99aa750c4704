# Each target works as the first command in a fresh clone: it creates .venv and installs the project.

PYTHON ?= python3
PORT ?= 3000
PAGE_PORT ?= $(shell expr $(PORT) + 1)
VENV ?= .venv
# Which versions are installed: exactly those of constraints.txt, or the newest allowed ones.
VERSIONS ?= --constraint constraints.txt
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed
# Dagster, together with a server for the page of demand_dashboard.
DAGSTER_DEV = $(BIN)/python -m demand_assets.dashboards.serve --port $(PAGE_PORT) -- \
    $(BIN)/dagster dev --workspace $(CURDIR)/workspace.yaml --host 127.0.0.1 --port $(PORT)

# The demo has its own record and its own data: a synthetic day must never count as ingested.
DAGSTER_HOME ?= $(CURDIR)/.dagster/live
DEMO_HOME ?= $(CURDIR)/.dagster/demo
DEMAND_DATA_DIR ?= $(CURDIR)/data

.PHONY: help run demo influxdb-dashboard test test-fast test-newest lint format bench backtest screenshots clean
help:
	@echo 'make demo                 try it: simulated API, embedded database, http://localhost:$(PORT)'
	@echo 'make run                  start it: real API, store of .env, http://localhost:$(PORT)'
	@echo 'make influxdb-dashboard   create or update the dashboard in the InfluxDB of .env'
	@echo 'make test                 run all tests'
	@echo 'make test-fast            run the unit tests'
	@echo 'make test-newest          run all tests with the newest allowed versions'
	@echo 'make lint                 run ruff and mypy'
	@echo 'make format               format the code'
	@echo 'make bench                measure a backfill'
	@echo 'make backtest             score the forecast over a year of days'
	@echo 'make screenshots          make the pictures of the documentation again'
	@echo 'make clean                delete .venv, caches, and the data of the demo'

run: $(INSTALLED) $(DAGSTER_HOME)/dagster.yaml
	cd $(DAGSTER_HOME) && DAGSTER_HOME=$(DAGSTER_HOME) $(DAGSTER_DEV)

demo: export DAGSTER_HOME := $(DEMO_HOME)
demo: export DEMAND_DATA_DIR := $(DEMAND_DATA_DIR)/demo
demo: export INFLUXDB_V2_URL :=
demo: $(INSTALLED) $(DEMO_HOME)/dagster.yaml
	cd $(DEMO_HOME) && $(BIN)/python -m demand_assets.simulator --port 0 -- $(DAGSTER_DEV)

influxdb-dashboard: $(INSTALLED)
	@$(BIN)/python -m demand_assets.dashboards

test: $(INSTALLED)
	$(BIN)/pytest -n 4 --dist load --maxschedchunk 1 $(ARGS)

# The unit tier: no server, no Dagster instance, under a minute.
test-fast: $(INSTALLED)
	$(BIN)/pytest -n 4 --dist load --maxschedchunk 4 demand_assets_tests/unit $(ARGS)

# All tests with the newest versions that pyproject.toml allows, in an environment of their own.
test-newest:
	$(MAKE) test VENV=.venv-newest VERSIONS='--upgrade --upgrade-strategy eager'

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m bench.backfill $(ARGS)

backtest: $(INSTALLED)
	$(BIN)/python -m bench.backtest $(ARGS)

# Make the pictures in docs/ again. Needs Chromium and takes some minutes.
screenshots: $(INSTALLED)
	$(BIN)/python -m demand_assets_tests.support.screenshots

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-newest .dagster/demo data/demo *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

# Dagster reads the `.env` of the folder in which it is started and lets it override the environment,
# so the demo would write to the live bucket. Therefore it is started in DAGSTER_HOME, where there is no
# `.env`; the project reads its own file, and gives precedence to the environment.

# All instances have the same configuration. It is a link, so that an edit applies to all of them.
%/dagster.yaml:
	mkdir -p $(@D)
	ln -sf $(CURDIR)/dagster.yaml $@

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(VERSIONS) --editable '.[dev]'
	touch $@
