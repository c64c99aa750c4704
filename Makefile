# Each target works as the first command in a fresh clone: it makes .venv and installs into it.

PYTHON ?= python3
PORT ?= 3000
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
INSTALLED := $(VENV)/.installed
DAGSTER_DEV = $(BIN)/dagster dev --workspace workspace.yaml --host 127.0.0.1 --port $(PORT)

# Run history and logs of the live system and of the demo stay apart, as their data do:
# a day invented by the demo must never count as ingested.
DAGSTER_HOME ?= $(CURDIR)/.dagster/live
DEMO_HOME ?= $(CURDIR)/.dagster/demo
DEMAND_DATA_DIR ?= $(CURDIR)/data

.PHONY: help run demo test lint format bench clean
help:
	@echo 'make demo   try it: a simulated API, an embedded database, http://localhost:$(PORT)'
	@echo 'make run    the live API, into the store that .env names'
	@echo 'make test   the tests          make lint   ruff and mypy          make bench   what a backfill costs'

run: $(INSTALLED) $(DAGSTER_HOME)/dagster.yaml
	DAGSTER_HOME=$(DAGSTER_HOME) $(DAGSTER_DEV)

demo: export DAGSTER_HOME := $(DEMO_HOME)
demo: export DEMAND_DATA_DIR := $(DEMAND_DATA_DIR)/demo
demo: export INFLUXDB_V2_URL :=
demo: $(INSTALLED) $(DEMO_HOME)/dagster.yaml
	$(BIN)/python -m demand_assets.simulator --port 0 -- $(DAGSTER_DEV)

test: $(INSTALLED)
	$(BIN)/pytest $(ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy bench

bench: $(INSTALLED)
	$(BIN)/python bench/backfill.py $(ARGS)

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .dagster data/demo *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis

# One instance configuration for every DAGSTER_HOME: a link, so that an edit is never forgotten.
%/dagster.yaml:
	mkdir -p $(@D)
	ln -sf $(CURDIR)/dagster.yaml $@

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@
