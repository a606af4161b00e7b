# From a fresh clone: `make bench` and `make test` each do all the set-up there is. A second call installs nothing.
#   make bench ARGS="--out results/mine"     make test ARGS="-k plan -x"     (ARGS goes to the command)
#   make test PYTHON=python3.13 VENV=/somewhere/else
#   make bench TORCH=2.13.0                   (PyPI's own build of torch, on Linux with CUDA, in place of the CPU build)

VENV   ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
PINNED := $(shell sed -n 's/^torch==//p' constraints.txt)
TORCH  ?= $(PINNED)+cpu
ARGS   =

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: bench test lint format docs dist torch clean help
.DELETE_ON_ERROR:

help:
	@echo "make bench   install, then the quality-versus-steps benchmark and its HTML report"
	@echo "make test    install, then every test"
	@echo "make lint    ruff and pyright;  make format writes what ruff would change"
	@echo "make docs    the documentation, into docs/_build/html"
	@echo "make dist    sdist and wheel, into dist/"
	@echo "make clean   remove the environment and everything built (results stay)"

bench: $(VENV)/.bench
	$(BIN)/scoresde bench $(ARGS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.dev
	rm -rf docs/api/generated
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

torch: $(VENV)/.torch

clean:
	rm -rf $(VENV) build dist docs/_build docs/api/generated .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is written when its installation has succeeded; a change of what it reads makes it stale.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "scoresde needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The CPU build: from the indexes that pip knows, else from PyTorch's own, else (macOS) PyPI's build, which is the CPU build there.
$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo "installing torch $(TORCH) into $(VENV) (some 200 MB)"
	@$(PIP) install -q -c constraints.txt "torch==$(TORCH)" 2>/dev/null \
	  || $(PIP) install -q -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu "torch==$(TORCH)" 2>/dev/null \
	  || $(PIP) install -c constraints.txt "torch==$(PINNED)"
	@touch $@

$(VENV)/.bench: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing scoresde[bench] into $(VENV)"
	@$(PIP) install -q -c constraints.txt -e ".[bench]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.torch
	@echo "installing scoresde[dev] into $(VENV)"
	@$(PIP) install -q -c constraints.txt -e ".[dev]"
	@$(PIP) install -q -c constraints.txt --no-deps azula k-diffusion  # they ask for torchvision, of which nothing is needed here
	@touch $@ $(VENV)/.bench
