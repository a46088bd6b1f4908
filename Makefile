# Everything runs in .venv, made on first use from constraints.txt. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1
export PYTHONUNBUFFERED := 1
export NO_MKDOCS_2_WARNING := 1

# An environment made once with the system's torch stays one.
ifneq ($(wildcard $(VENV)/.made-with-system-torch),)
SYSTEM_TORCH := 1
endif
ifdef SYSTEM_TORCH
MADE := $(VENV)/.made-with-system-torch
else
MADE := $(VENV)/.made
endif
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint $(VENV)/constraints.txt

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

.PHONY: demo
demo: $(VENV)/.base ## compare every rule on overlaid digits and print where the report lies
	$(BIN)/equipoise run digits-pairs --rules all --seeds 5 --out runs/digits-pairs

.PHONY: test
test: $(VENV)/.test ## the whole test suite; PYTEST="..." adds arguments
	$(BIN)/python -m pytest -n $(WORKERS) --durations=15 $(PYTEST)

.PHONY: check
check: $(VENV)/.dev ## style, types, imports between rooms, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

.PHONY: test-examples
test-examples: $(VENV)/.test ## every example, two at a time; EXAMPLES=--half runs every other one
	$(BIN)/python examples/_run.py $(EXAMPLES)

.PHONY: test-docs
test-docs: docs ## the built documentation in a browser: search, console, links, phones
	$(BIN)/python -m pytest tests/website $(PYTEST)

.PHONY: docs
docs: $(VENV)/.dev ## the documentation, to site/
	$(BIN)/mkdocs build --strict

.PHONY: bench
bench: $(VENV)/.base ## the cost of a step, the engine, the solvers, merging, scores, federated rounds and scaling laws, to benchmarks/results.json and docs/benchmarks.md
	for name in engine solvers steps merging transferability federated scaling; do $(BIN)/python -m benchmarks.$$name; done

.PHONY: bench-peers
bench-peers: $(VENV)/.peers bench ## the same with TorchJD beside

.PHONY: test-peers
test-peers: $(VENV)/.peers ## our rules and engine against TorchJD's
	$(BIN)/python -m pytest tests/external $(PYTEST)

.PHONY: test-federated
test-federated: $(VENV)/.federated ## Flower for real: a deployment over TLS on this machine, its simulation, faults
	EQUIPOISE_TEST_FLOWER=1 $(BIN)/python -m pytest tests/federated/flower --durations=15 $(PYTEST)

.PHONY: evidence
evidence: $(VENV)/.base ## every experiment of evidence/, two at a time; EVIDENCE=--fast checks the mechanics
	@printf '%s\n' evidence/[a-z]*.py | xargs -n 1 -P 2 bash -c \
	  'said=$$($(BIN)/python "$$0" $(EVIDENCE) 2>&1) && code=0 || code=$$?; \
	   printf "== %s: exit %d, %d s\n%s\n" "$$0" "$$code" "$$SECONDS" "$$said"; exit "$$code"'
	@$(if $(findstring --fast,$(EVIDENCE)),,$(BIN)/python docs/pages.py evidence)

.PHONY: clean
clean: ## remove the environment and what was built, not the runs
	rm -rf $(VENV) site build dist

$(MADE):
ifdef SYSTEM_TORCH
	@$(PYTHON) -c 'import torch' || { echo "SYSTEM_TORCH=1: $(PYTHON) has no torch" >&2; exit 1; }
	$(PYTHON) -m venv --clear --system-site-packages $(VENV)
else
	$(PYTHON) -m venv $(VENV)
endif
	touch $@

$(VENV)/constraints.txt: constraints.txt $(MADE)
	grep -v $(if $(SYSTEM_TORCH),'^torch==','^#') constraints.txt > $@

$(VENV)/.base: $(VENV)/constraints.txt pyproject.toml
	$(INSTALL) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(INSTALL) --editable '.[test]'
	touch $@

$(VENV)/.dev: $(VENV)/.test
	$(INSTALL) --editable '.[dev]'
	touch $@

$(VENV)/.federated: $(VENV)/.test
	$(INSTALL) --editable '.[test,federated]'
	touch $@

$(VENV)/.peers: $(VENV)/.test
	$(INSTALL) --editable '.[test,peers]'
	touch $@
