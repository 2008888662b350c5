# The two commands of the README are `make run` and `make test`; everything else serves them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
SYNC   := $(UV) pip sync --quiet --python $(BIN)/python --require-hashes
LOCK   := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

.PHONY: run test check setup setup-dev lock bench stop-bench faults clean

run: setup                ## install what is missing and start everything on the simulated venue
	@exec $(BIN)/sixbot up --demo

test: setup-dev           ## install the test tools and run the whole suite
	@exec scripts/check

check: test

setup: $(VENV)/.runtime   ## build .venv from the hashed lock file, nothing else

setup-dev: $(VENV)/.dev

$(UV): requirements-uv.lock
	@scripts/preflight $(PYTHON)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing uv into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock
	@touch $(UV)

$(VENV)/.runtime: requirements.lock pyproject.toml | $(UV)
	@if test ! -e $(VENV)/.dev; then echo "installing the locked packages into $(VENV)"; cat requirements.lock requirements-uv.lock > $(VENV)/sync.txt; \
	  $(SYNC) $(VENV)/sync.txt; fi
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.dev: requirements.lock requirements-dev.lock pyproject.toml | $(UV)
	@echo "installing the locked packages and the test tools into $(VENV)"
	@cat requirements-dev.lock requirements-uv.lock > $(VENV)/sync.txt
	@$(SYNC) $(VENV)/sync.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --no-index --editable .
	@touch $@ $(VENV)/.runtime

bench: setup-dev          ## measure every path against its limit; writes docs/measured/bench.md
	@exec $(BIN)/python -m tests.bench.run

stop-bench: setup-dev     ## measure the stop, write docs/measured/stop.md: N gate trials, CANCELS and SLOW trials of the others
	@$(BIN)/python -m tests.bench.stop_bench --trials $(or $(N),10000) $(if $(CANCELS),--cancels $(CANCELS)) $(if $(SLOW),--slow $(SLOW))

lock: | $(UV)             ## renew the three lock files from pyproject.toml
	$(LOCK) --group bootstrap -o requirements-uv.lock
	$(LOCK) pyproject.toml --group build -o requirements.lock
	$(LOCK) pyproject.toml --all-extras --group build --group dev -c requirements.lock -o requirements-dev.lock

faults: setup-dev         ## N random kills, failpoints, calamities, ambiguity matrix; writes docs/measured/faults.md (N=1000: about 20 minutes)
	@exec $(BIN)/python -m tests.faults $(N)

clean:                    ## remove the virtual environment and caches, never the data under var/
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
