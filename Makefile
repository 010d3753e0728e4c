# `make lab` opens the course; `make test` proves that everything works. Both set up what they need.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help lab test test-clients lint format weights slides book exercises clean setup setup-dev

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
NOTEBOOKS = $(wildcard lessons/*.ipynb solutions/*.ipynb exercises/*.ipynb)
# JupyterLab and the tests find the package's commands first.
# How long waiting threads spin; see minillm/__init__.py. Set here for programs that load PyTorch first.
export GOMP_SPINCOUNT ?= 1000
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: setup weights  ## set up, fetch the models, open the course in JupyterLab
	@$(BIN)/minillm lab

test: setup-dev weights slides/node_modules  ## set up, run every check: lint, types, unit tests, notebooks, slides
	@$(MAKE) --no-print-directory lint
	@echo "== tests"
	@$(BIN)/python -m pytest tests
	@echo "== notebooks: every lesson and solution from top to bottom"
	@MINILLM_TRAIN_STEPS=2 MINILLM_TRAIN_QUESTIONS=3 $(BIN)/python -m pytest --nbmake --nbmake-timeout=600 lessons solutions

test-clients: setup-dev weights .venv-clients/frameworks/.ready .venv-clients/llama-index/.ready  ## run nine other people's agents on the server (sets up 0.8 GB, once)
	@echo "== clients: other people's agents and libraries, on minillm serve with the real model"
	@$(BIN)/python -m pytest -m clients tests/clients

lint: setup-dev  ## style, import rules, notebooks without outputs, types
	@echo "== ruff";          $(BIN)/ruff check . && $(BIN)/ruff format --check .
	@echo "== import rules";  $(BIN)/lint-imports
	@echo "== nbstripout";    $(BIN)/nbstripout --verify $(NOTEBOOKS)
	@echo "== exercises are up to date with solutions"; $(BIN)/python -m minillm.lab.exercises --check
	@echo "== mypy";          $(BIN)/mypy minillm

format: setup-dev  ## let ruff rewrite the code, and strip the notebooks' outputs
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/nbstripout $(NOTEBOOKS)

weights: setup  ## fetch the models (about 180 MB, once)
	@$(BIN)/minillm weights

slides: setup-dev slides/node_modules  ## build the decks: HTML, PDF and PPTX with notes
	@$(BIN)/python slides/build.py

book: setup  ## run every lesson and write it as a plain HTML page into book/ (ten minutes of it for the optional one)
	@$(BIN)/jupyter nbconvert --execute --CoalesceStreamsPreprocessor.enabled=True --to html --output-dir book lessons/*.ipynb

exercises: setup-dev  ## make the exercises anew from the solutions
	@$(BIN)/python -m minillm.lab.exercises

clean:  ## remove the environment and everything built; the models stay in their cache
	rm -rf .venv .venv-clients book build *.egg-info slides/build slides/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

setup: .venv/.course
setup-dev: .venv/.dev

# The virtual environment, with PyTorch in it. A wheel that pip finds on this machine's disk comes first. Otherwise uv
# takes the build that fits the machine: for a computer without an NVIDIA GPU that's 200 MB instead of 3 GB.
.venv/.torch: constraints.txt
	@test -n "$(PYTHON)" || { echo "minillm needs Python 3.11 or newer; none was found. Install one, or name it: make lab PYTHON=/path/to/python" >&2; exit 1; }
	@echo "== setting up .venv with $(PYTHON) (once, one to three minutes)"
	@$(PYTHON) -m venv .venv || { echo "Python's venv module is missing. On Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@echo "== installing $(TORCH)"
	@$(PIP) install -q --no-index --no-deps $(TORCH) >/dev/null 2>&1 || { \
		$(PIP) install -q -c constraints.txt uv && $(BIN)/uv pip install -q --python $(BIN)/python --torch-backend=auto $(TORCH); } || { \
		echo "   uv could not get it; pip takes the default build, which is large"; $(PIP) install $(TORCH); }
	@touch $@

.venv/.course: .venv/.torch pyproject.toml constraints.txt
	@echo "== installing minillm and the course's packages"
	@$(PIP) install -q -c constraints.txt -e '.[course]'
	@touch $@

.venv/.dev: .venv/.course
	@echo "== installing the tools for tests"
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $@

# Other people's frameworks, each set in an environment of its own with every version pinned.
.venv-clients/%/.ready: tests/clients/%.txt
	@echo "== setting up .venv-clients/$* (once, one or two minutes)"
	@$(PYTHON) -m venv --clear .venv-clients/$*
	@.venv-clients/$*/bin/python -m pip --disable-pip-version-check install -q --no-compile -r $<
	@touch $@

slides/node_modules: slides/package-lock.json
	@echo "== installing Marp, which builds the slides"
	@command -v npm >/dev/null || { echo "npm is missing; the slides are built with it. On Debian or Ubuntu: sudo apt-get install nodejs npm" >&2; exit 1; }
	@npm ci --prefix slides --no-audit --no-fund --loglevel=error
	@touch $@
