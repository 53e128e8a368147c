# Targets for people. `make help` lists them.
PROFILE ?=
STORE ?= runs
SEEDS ?=
MINUTES ?= 10
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m studies
OPTIONS = $(if $(PROFILE),--profile $(PROFILE)) --store $(STORE)

.DEFAULT_GOAL := help
.PHONY: help setup list plan-% study-% studies report-% test test-slow test-gpu test-faults summary lint format smoke benchmark clean

help: ## list the targets
	@grep -hE '^[a-zA-Z%-]+:.*?## ' $(MAKEFILE_LIST) | sort | awk -F ':.*?## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "  with PROFILE=smoke|laptop (now $(or $(PROFILE),laptop)), SEEDS=n, STORE=folder (now $(STORE)), PYTHON=interpreter"

setup: $(VENV)/.installed ## make the virtual environment with pinned dependencies

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

list: setup ## list the studies and their questions
	@$(RUN) list

plan-%: setup ## say what study-% would do, and run nothing
	@$(RUN) plan $* $(OPTIONS) $(if $(SEEDS),--seeds $(SEEDS))

study-%: setup ## run architecture, depth, stabilization, noise, modern, combined, aa or reference, and write its report
	@$(RUN) run $* $(OPTIONS) $(if $(SEEDS),--seeds $(SEEDS))

studies: ## run all laptop studies, then answer the founding document's claims on one page
	@for study in architecture depth stabilization noise modern combined; do $(MAKE) --no-print-directory study-$$study || exit; done
	@$(MAKE) --no-print-directory summary

report-%: setup ## write a study's report again from the store
	@$(RUN) report $* $(OPTIONS)

summary: setup ## answer every claim of the founding document on one page, from all studies in the store
	@$(RUN) summary $(OPTIONS)

smoke: ## the noise study in three minutes, through every code path
	@$(MAKE) --no-print-directory study-noise PROFILE=smoke STORE=runs-smoke

test: setup ## run the tests, two files at a time
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10 tests/faults tests

test-slow: setup ## run the tests that take minutes
	@$(VENV)/bin/python -m pytest -m slow

test-faults: setup ## a study under random kills for MINUTES (10), compared with an undisturbed one
	@$(VENV)/bin/python -m tests.faults.campaign --minutes $(MINUTES)

test-gpu: setup ## run the tests that need a GPU
	@$(VENV)/bin/python -m pytest -m gpu

lint: setup ## check style and types
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/pyright

format: setup ## put the code into style
	@$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

benchmark: setup ## compare training with a bare PyTorch loop, and what depths and resolutions cost
	@$(VENV)/bin/python benchmarks/training.py
	@$(VENV)/bin/python benchmarks/networks.py

clean: ## remove the environment and caches; stores are left alone
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
