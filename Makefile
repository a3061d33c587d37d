# make demo, make test: all the set-up and then the job, on a fresh machine with Python >= 3.11 and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One thread per process: two OpenMP teams beside each other spin and run many times slower.
THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive

.PHONY: setup demo test lint format mutants clean
setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "stablenets needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,exact,export,test,lint]'
	@touch $@

demo: setup
	$(BIN)/stablenets demo

test: setup
	$(THREADS) $(BIN)/python -m pytest -q -n 2 -rs

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --project pyproject.toml
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

mutants: setup
	$(THREADS) $(BIN)/python tests/mutants.py

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
