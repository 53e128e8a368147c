# Targets for people. `make help` lists them.
PROFILE ?=
STORE ?= runs
SEEDS ?=
MINUTES ?= 10
SITE ?= site
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m studies
quoted = '$(subst ','\'',$(1))'
OPTIONS = $(if $(PROFILE),--profile $(call quoted,$(PROFILE))) --store $(call quoted,$(STORE))
ifneq ($(and $(strip $(SEEDS)),$(filter report-% summary,$(MAKECMDGOALS))),)
$(error SEEDS=$(SEEDS) is for plan-%, study-% and studies; a report shows those of the last run)
endif

.DEFAULT_GOAL := help
.PHONY: help setup list plan-% study-% studies report-% site test test-slow test-gpu test-faults summary docs lint format smoke benchmark publish clean

help: ## list the targets
	@grep -hE '^[a-zA-Z%-]+:.*?## ' $(MAKEFILE_LIST) | sort | awk -F ':.*?## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo "  with PROFILE=smoke|laptop (now $(or $(PROFILE),laptop)), STORE=folder (now $(STORE)),"
	@echo "  SITE=folder, PYTHON=interpreter; SEEDS=n for plan-%, study-% and studies"

setup: $(VENV)/.installed ## make the virtual environment with pinned dependencies

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0])'
	@echo "installing $$(grep -c == constraints.txt) packages into $(VENV), about 7 GB: some minutes"
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

list: setup ## list the studies and their questions
	@$(RUN) list

plan-%: setup ## say what study-% would do, and run nothing
	@$(RUN) plan $* $(OPTIONS) $(if $(SEEDS),--seeds $(call quoted,$(SEEDS)))

study-%: setup ## run a study that `make list` names; write its report
	@$(RUN) run $* $(OPTIONS) $(if $(SEEDS),--seeds $(call quoted,$(SEEDS)))

studies: ## run all laptop studies, then do summary
	@for study in architecture depth stabilization noise modern combined; do $(MAKE) --no-print-directory study-$$study || exit; done
	@$(MAKE) --no-print-directory summary SEEDS=

report-%: setup ## write a study's report again, of its last run
	@$(RUN) report $* $(OPTIONS)

docs: setup ## build the documentation into build/docs
	@$(VENV)/bin/python docs/reference.py && $(VENV)/bin/python docs/build.py && echo "wrote build/docs/index.html"

summary: setup ## answer all claims on one page, from the store alone
	@$(RUN) summary $(OPTIONS)

site: setup ## one static site of all stores in STORE, in the folder SITE
	@$(RUN) site $(foreach store,$(STORE),$(call quoted,$(store))) --out $(call quoted,$(SITE))

smoke: ## the noise study in a minute or two, through all code paths
	@$(MAKE) --no-print-directory study-noise PROFILE=smoke STORE=runs-smoke

publish: setup ## run all that is published again, for hours
	@$(VENV)/bin/python -m reports.publish --store $(call quoted,$(STORE))

test: setup ## run the tests, two files at a time
	@$(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10 tests/faults tests

test-slow: setup ## run the tests that take minutes
	@$(VENV)/bin/python -m pytest -m slow

test-faults: setup ## random kills for MINUTES (10): is the outcome the same?
	@$(VENV)/bin/python -m tests.faults.campaign --minutes $(MINUTES)

test-gpu: setup ## run the tests that need a GPU
	@$(VENV)/bin/python -m pytest -m gpu

lint: setup ## check style and types
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/pyright

format: setup ## put the code into style
	@$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

benchmark: setup ## compare with bare PyTorch loops; cost of depth, size
	@$(VENV)/bin/python benchmarks/training.py
	@$(VENV)/bin/python benchmarks/networks.py
	@$(VENV)/bin/python benchmarks/study.py

clean: ## remove the environment and caches; stores are left alone
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
