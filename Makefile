# `make help` lists the targets. Each makes its own environment when needed.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PYTEST_ARGS ?=
LISTEN ?= 127.0.0.1:8080

.DEFAULT_GOAL := help
.PHONY: help demo run test soak check bench lock clean packages

help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# pip is told the lock and nothing else: hashes are required, and nothing is resolved.
define install
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "Could not make an environment: install Python >= 3.11 with venv" \
	       "(Debian, Ubuntu: apt-get install python3 python3-venv)." >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python >= 3.11 is needed; $(PYTHON) is older. Set PYTHON=..." >&2; \
	  rm -rf $(VENV); exit 1; }
	@echo "Installing the locked packages into $(VENV) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(1)
	@PYTHONWARNINGS=ignore \
	  $(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endef

$(VENV)/.run: requirements.lock setup.py
	$(call install,requirements.lock)
	@touch $@

$(VENV)/.dev: requirements-dev.lock setup.py
	$(call install,requirements-dev.lock)
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run  ## a primary, a worker and one job, from start to end
	@$(BIN)/python examples/demo.py

run: $(VENV)/.run  ## a primary with a worker of two slots on LISTEN (127.0.0.1:8080), data in ./var
	@$(BIN)/modelrunner serve --data var --listen $(LISTEN) --models models --slots 2

# As root on Debian, or in CI, the tests' packages are installed and nothing is skipped.
packages:
	@if [ -n "$$CI" ] || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; }; then \
	  tests/install_packages.sh debian-packages.txt; fi

test: $(VENV)/.dev packages  ## all tests
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

soak: $(VENV)/.dev packages  ## the promises' tests with their long figures: about an hour
	@MR_SOAK=1 $(BIN)/python -m pytest -o timeout=7200 tests/promises $(PYTEST_ARGS)

check: $(VENV)/.dev  ## ruff, mypy --strict and the import layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_layers.py

bench: $(VENV)/.dev  ## measurements, as ratios within one run
	@$(BIN)/python bench/latency.py
	@$(BIN)/python bench/remote.py
	@$(BIN)/python -m bench.pages

lock: $(VENV)/.dev  ## resolve the ranges of setup.py anew (needs uv)
	@uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-annotate \
	  --no-header --upgrade setup.py build-requirements.txt -o requirements.lock
	@uv pip compile -q --universal --generate-hashes --python-version 3.11 --no-annotate \
	  --no-header --upgrade --extra dev setup.py build-requirements.txt -o requirements-dev.lock

clean:  ## remove the environment and what the tools left
	@rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
