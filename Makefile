# Each target works as the first command in a fresh clone: it creates .venv and installs the project.
# All paths are relative, so that the path of the checkout may contain spaces, quotes or `$`.
# Folders, ports and settings are read by the programs, from the environment: `make` puts what is
# given on its command line there.

PYTHON ?= python3
VENV ?= .venv
# Which versions are installed: exactly those of constraints.txt, or the newest allowed ones.
VERSIONS ?= --constraint constraints.txt
RUN := exec $(VENV)/bin/python -m
INSTALLED := $(VENV)/.installed
export PYTHON

.PHONY: help run demo doctor influxdb-dashboard test test-fast test-newest lint format bench backtest \
    screenshots clean
help:
	@echo 'make demo                 try it: simulated API, embedded database, http://localhost:3000'
	@echo 'make run                  start it: real API, store of .env, http://localhost:3000'
	@echo 'make doctor               find out what is wrong: settings, network, store, this machine'
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

# The launcher replaces the shell, so that it gets the signals which `make` passes on.
run: $(INSTALLED)
	@$(RUN) demand_assets.launcher live

demo: $(INSTALLED)
	@$(RUN) demand_assets.launcher demo

doctor: $(INSTALLED)
	@$(RUN) demand_assets.doctor

influxdb-dashboard: $(INSTALLED)
	@$(RUN) demand_assets.dashboards

test: $(INSTALLED)
	$(RUN) pytest -n 4 --dist load --maxschedchunk 1 $(ARGS)

# The unit tier: no server, no Dagster instance, under a minute.
test-fast: $(INSTALLED)
	$(RUN) pytest -n 4 --dist load --maxschedchunk 4 demand_assets_tests/unit $(ARGS)

# All tests with the newest versions that pyproject.toml allows, in an environment of their own.
test-newest:
	$(MAKE) test VENV=.venv-newest VERSIONS='--upgrade --upgrade-strategy eager'

lint: $(INSTALLED)
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(RUN) mypy

bench: $(INSTALLED)
	$(RUN) bench.backfill $(ARGS)

backtest: $(INSTALLED)
	$(RUN) bench.backtest $(ARGS)

# Make the pictures in docs/ again. Needs Chromium and takes some minutes.
screenshots: $(INSTALLED)
	$(RUN) demand_assets_tests.support.screenshots

format: $(INSTALLED)
	$(VENV)/bin/python -m ruff check --fix .
	$(RUN) ruff format .

clean:
	rm -rf .venv .venv-newest .dagster/demo data/demo *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

$(INSTALLED): pyproject.toml constraints.txt
	"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	"$$PYTHON" -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(VERSIONS) --editable '.[dev]'
	touch $@
