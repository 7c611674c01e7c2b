# Everything runs from .venv, which `make setup` makes and keeps current.
# Variables: SWEEP (a sweep file), BUDGET (such as 2m), RUN (a run's name), ARGS (further arguments of the command),
# PYTHON (the interpreter that .venv is made with, 3.11 to 3.13). In a container also MEMORY (a limit, such as 16g),
# GRACE (seconds from SIGTERM to SIGKILL, default 30), VARIANT (cpu or cuda; default: what the host has), ENGINE (docker
# or podman; default: what works here).
SWEEP  ?= configs/sweeps/quickstart.yaml
BUDGET ?= 2m
RUN    ?= $(basename $(notdir $(SWEEP)))
ARGS   ?=
IMAGE_ARGS ?=
PYTHON ?= python3

export MEMORY GRACE VARIANT ENGINE

HERE  := $(dir $(lastword $(MAKEFILE_LIST)))
BIN   := .venv/bin
STAMP := .venv/lock.sha256

.DEFAULT_GOAL := help
.PHONY: help setup setup-storage lock sweep plan debug probe thermal-demo report status doctor verify image docker-sweep docker-plan docker-debug docker-shell lint format typecheck test test-slow check chaos gpu-bench clean

help: ## list all targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'
	@echo "  variables:  SWEEP=$(SWEEP) BUDGET=$(BUDGET) RUN=$(RUN) ARGS=$(ARGS)"

setup: ## virtual environment, locked dependencies, the package (skipped while nothing changed)
	@wanted=$$(cat pyproject.toml requirements.lock | $(PYTHON) -c 'import hashlib,sys;print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())') && \
	if [ "$$wanted" != "$$(cat $(STAMP) 2>/dev/null)" ]; then \
	  $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	    { echo "isotherm needs Python 3.11 to 3.13, $(PYTHON) is $$($(PYTHON) --version); set PYTHON=..."; exit 2; } && \
	  echo "setting up .venv (a few minutes the first time)" && \
	  $(PYTHON) -m venv .venv && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]' && \
	  echo "$$wanted" > $(STAMP); \
	fi

setup-storage: ## the S3 server of the tests, in .venv-s3: its libraries would hold some of ours back
	@if ! cmp -s tests/s3-server.lock .venv-s3/s3-server.lock; then \
	  $(PYTHON) -m venv --clear .venv-s3 && \
	  .venv-s3/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/s3-server.lock && \
	  cp tests/s3-server.lock .venv-s3/s3-server.lock; \
	fi

lock: ## resolve requirements.lock anew (needs the tool uv)
	@sed -n '/^#/p' requirements.lock > .lock.head
	@uv pip compile --universal --python-version 3.11 --extra dev --extra yfinance --extra sql --extra cluster --no-header --no-annotate --quiet \
	  --upgrade -o .lock.body pyproject.toml && cat .lock.head .lock.body > requirements.lock; rm -f .lock.head .lock.body

sweep: setup ## run a sweep (SWEEP=...); run again, it resumes
	@$(BIN)/isotherm sweep $(SWEEP) $(ARGS)

plan: setup ## show the grid as it would run (SWEEP=...)
	@$(BIN)/isotherm plan $(SWEEP) $(ARGS)

debug: setup ## one trial in this process, no Ray (SWEEP=..., BUDGET=...)
	@$(BIN)/isotherm debug $(SWEEP) --budget $(BUDGET) $(ARGS)

probe: setup ## measure what fits at one budget (SWEEP=..., BUDGET=...)
	@$(BIN)/isotherm probe $(SWEEP) --budget $(BUDGET) $(ARGS)

thermal-demo: setup ## a real sweep through a simulated heat wave, about two minutes
	@$(BIN)/isotherm sweep configs/sweeps/thermal_demo.yaml $(ARGS)

report: setup ## build a run's report again (RUN=...)
	@$(BIN)/isotherm report $(RUN) $(ARGS)

status: setup ## progress of a run (RUN=...)
	@$(BIN)/isotherm status $(RUN) $(ARGS)

doctor: setup ## is this host fit for a sweep? (SWEEP=...)
	@$(BIN)/isotherm doctor $(SWEEP) $(ARGS)

image: ## build the image with docker or podman, for the GPU of this host or for the CPU (VARIANT=cpu|cuda)
	@$(HERE)docker/build $(IMAGE_ARGS)

docker-sweep: ## a sweep in the image (SWEEP=..., MEMORY=16g); run again, it resumes
	@SWEEP=$(SWEEP) $(HERE)docker/run isotherm sweep $(SWEEP) $(ARGS)

docker-plan: ## the grid as it would run in the image (SWEEP=...)
	@SWEEP=$(SWEEP) $(HERE)docker/run isotherm plan $(SWEEP) $(ARGS)

docker-debug: ## one trial in the image, breakpoints work (SWEEP=..., BUDGET=...)
	@SWEEP=$(SWEEP) $(HERE)docker/run isotherm debug $(SWEEP) --budget $(BUDGET) $(ARGS)

docker-shell: ## a shell in the image, with data/, runs/ and configs/ of this folder
	@SWEEP=$(SWEEP) $(HERE)docker/run bash

verify: setup ## the environment against the lock, and every dataset against its catalog entry
	@$(BIN)/python -m pip check --disable-pip-version-check
	@$(BIN)/python -m pytest tests/contracts/test_lock.py
	@$(BIN)/isotherm data verify

lint: setup ## style and import order
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: setup ## put the code in order
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

typecheck: setup ## static types, strict
	@$(BIN)/mypy

# Files of tests are shared out among processes, one more than there are cores, since a third of the time they wait for
# processes that they started; one thread each.
# The slow ones start processes of their own and often wait for them, so more of them share the cores, test by test but
# for groups (`xdist_group`) that share what is made once; the files that take longest come first (tests/conftest.py).
test test-slow: export OMP_NUM_THREADS = 1
test: setup ## the tests, without the slow ones
	@$(BIN)/python -m pytest -m "not slow" -n $$(( $$(nproc) < 8 ? $$(nproc) + 1 : 8 )) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup setup-storage ## the tests that take long
	@$(BIN)/python -m pytest -m slow -n 4 --dist loadgroup --no-loadscope-reorder $(ARGS)

check: lint typecheck test test-slow ## all that CI runs

chaos: setup setup-storage ## sweeps through kills, full disks, hung workers, lost servers; half an hour
	@$(BIN)/python -m tests.chaos $(ARGS)

gpu-bench: setup ## what this product does on a GPU, in under seven minutes (docs/gpu.md)
	@$(BIN)/python -m benchmarks.gpu $(ARGS)

clean: ## remove .venv and caches; runs/ and data/ stay
	@rm -rf .venv .venv-s3 build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find isotherm runner trainables tests -name __pycache__ -type d -prune -exec rm -rf {} +
