# Everything that is done more than once.  `make` alone lists the targets.
# The first `make train` on a bare machine (Python 3.11 or newer, git, make) makes the virtual environment .venv;
# later ones start at once, until pyproject.toml changes.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
VLLM   := .venv-vllm
CONFIG ?= configs/babyai_goto.yaml
ARGS   ?=
MODEL  := .cache/models/SmolLM2-135M-Instruct

# Training and tests ask no model hub; `make train HF_HUB_OFFLINE=0 CONFIG=...` lets a run download its model.
HF_HUB_OFFLINE ?= 1
export HF_HUB_OFFLINE
# Threads that wait should hardly spin: with 2 cores they would take the time of those that work.
ifndef OMP_WAIT_POLICY
GOMP_SPINCOUNT ?= 2000
export GOMP_SPINCOUNT
endif
OMP_WAIT_POLICY ?= passive
export OMP_WAIT_POLICY

.PHONY: help train balrog test test-learning test-vllm vllm lint bench bench-vllm models docs

help: ## list the targets
	@echo "targets:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo "for example:"
	@echo "  make train CONFIG=configs/babyai_goto.yaml ARGS='training_args.max_steps=20'"
	@echo "  make train ARGS=--resume"
	@echo "  make test ARGS='tests/mmrl -k store'"

# Every `make train` is a run of its own: runs/NAME, runs/NAME-2, ...; ARGS=--resume goes on with runs/NAME.
train: $(VENV)/.train ## train CONFIG (configs/babyai_goto.yaml), with ARGS; no model hub is asked
	@base=runs/$(notdir $(basename $(CONFIG))); dir=$$base; n=2; \
	case "$(ARGS)" in \
	  *--resume*|*output?dir*) dir= ;; \
	  *) while [ -e "$$dir" ]; do dir=$$base-$$n; n=$$((n + 1)); done ;; \
	esac; \
	exec $(BIN)/mmrl train $(CONFIG) $${dir:+--output-dir $$dir} $(ARGS)

# Trains, or goes on where it was interrupted; then the figure: 500 held-out seeds of each task, episode by episode.
balrog: $(VENV)/.train ## train one policy for BALROG's five BabyAI tasks and compare it with the committed record
	@$(BIN)/mmrl train configs/babyai_balrog.yaml --output-dir runs/babyai_balrog --resume
	@$(BIN)/mmrl eval runs/babyai_balrog/config.yaml --policy runs/babyai_balrog/final --episodes 500 \
	  --records runs/babyai_balrog/balrog.jsonl
	@$(BIN)/python scripts/balrog_figure.py runs/babyai_balrog/balrog.jsonl $(ARGS)

# A process a core, each with one thread; neighbours mostly stay together, for what they share.
SPREAD := --numprocesses logical --maxprocesses 8 --dist worksteal

test: $(VENV)/.dev models ## run the tests, with ARGS
	@PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(SPREAD) $(ARGS)

# Two at once, since what starts an engine computes on one core; the tests of a file share its engines.
SPREAD_VLLM := --numprocesses 2 --dist loadfile

test-vllm: $(VLLM)/.ready models ## run the tests that need vLLM (tests/with_vllm), with ARGS
	@PATH="$(CURDIR)/$(VLLM)/bin:$$PATH" $(VLLM)/bin/python -m pytest -m vllm $(SPREAD_VLLM) tests/with_vllm $(ARGS)

# The results are written as they come: what a run that fails has measured stands on the page too.
test-learning: $(VENV)/.dev ## learn two tasks by every algorithm (hours); writes docs/learning.md
	@failed=0; PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m learning tests/learning $(ARGS) || failed=$$?; \
	$(BIN)/python scripts/learning_docs.py && exit $$failed

lint: $(VENV)/.dev ## ruff, pyright, the arrows between packages, the size limits
	@$(BIN)/ruff check --output-format=concise
	@$(BIN)/pyright
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/check_size.py

bench: $(VENV)/.dev ## run every benchmark; each appends to benchmarks/RESULTS.md
	@failed=0; for script in $(filter-out benchmarks/results.py benchmarks/vllm_hf.py,$(wildcard benchmarks/*.py)); do \
	  echo "== $$script"; $(BIN)/python $$script || failed=1; done; exit $$failed

bench-vllm: $(VLLM)/.ready models ## the benchmark that needs vLLM: its sampling against our own
	@$(VLLM)/bin/python benchmarks/vllm_hf.py $(ARGS)

vllm: $(VLLM)/.ready ## make .venv-vllm: vLLM for the CPU, and mmrl beside it

models: $(MODEL)/config.json ## fetch SmolLM2-135M-Instruct into .cache/models (once)

docs: $(VENV)/.dev ## rewrite docs/configuration.md and docs/plugins.md from the docstrings in the code
	@$(BIN)/python scripts/config_docs.py
	@$(BIN)/python scripts/plugin_docs.py

$(MODEL)/config.json: | $(VENV)/.dev
	@$(BIN)/python scripts/fetch_models.py --out $(MODEL)

# pip is the last thing that the venv module writes: where it is, the environment is whole.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON); install Python 3.11 or newer, or give one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1 | cut -d" " -f2); give one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }

# pip shows its progress on a terminal and is quiet elsewhere.
PIP := $(BIN)/python -m pip install --disable-pip-version-check $(if $(MAKE_TERMOUT),,--quiet)

# A stamp stands for a finished installation; an interrupted one leaves none and is taken up again.
$(VENV)/.train: pyproject.toml | $(BIN)/pip
	@echo "installing what training needs (once; PyTorch is large)"
	@$(PIP) --editable '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/pip
	@echo "installing what training, tests and checks need (once; PyTorch is large)"
	@$(PIP) --editable '.[train,dev]'
	@touch $(VENV)/.train $@

$(VLLM)/.ready: pyproject.toml scripts/install_vllm.py | $(BIN)/pip
	@echo "installing vLLM for the CPU into $(VLLM) (once; it takes minutes)"
	@[ -e $(VLLM)/bin/pip ] || $(BIN)/python -m venv $(VLLM)
	@$(VLLM)/bin/python scripts/install_vllm.py
	@touch $@
