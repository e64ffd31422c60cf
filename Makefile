# `make help` lists what the project can do. Needs Python 3.11 or newer, git and make; packages go to .venv and to no
# other Python. All paths are relative and scripts are run by -m, so the folder may have any name, blanks too.

PYTHON ?= python3
ARGS ?=

VENV_PYTHON := .venv/bin/python
RUN := $(VENV_PYTHON) -m
PINS := constraints.txt
INSTALL := $(RUN) uv pip install --python $(VENV_PYTHON) --constraint $(PINS) --build-constraint $(PINS) \
    --compile-bytecode

.DEFAULT_GOAL := help
.NOTPARALLEL:  # one .venv, one writer, also under make -j
.PHONY: report test parity lab check bench notebooks golden pins clean help

report: .venv/for-run  ## Run the AAPL report on the embedded sample; the last line is the path of report.html
	@$(RUN) backgrid report $(ARGS)

test: .venv/for-test  ## Run all tests, the notebooks and the import rules (one of them: ARGS="-k sharpe")
	@BACKGRID_LEDGER=off $(RUN) pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
	    $(or $(ARGS),--cov --cov-report term-missing:skip-covered tests)
	@test -n "$(ARGS)" || BACKGRID_LEDGER=off $(RUN) pytest notebooks/0*.ipynb

parity: .venv/for-parity  ## Hold the engine to its peers (vectorbt, backtesting.py, TA-Lib ...) and print the table
	@$(RUN) pytest -W default tests/parity $(ARGS)

lab: .venv/for-lab  ## Open JupyterLab on the index of the notebooks
	@$(RUN) jupyterlab $(ARGS) notebooks/00_index.ipynb

check: .venv/for-test  ## Lint, formatting and types (mend the first two: ruff check --fix, ruff format)
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

bench: .venv/for-parity  ## Measure the speeds that the README names, side by side with peers
	@$(VENV_PYTHON) tests/benchmarks/run.py $(ARGS)

notebooks: .venv/for-test  ## Execute the numbered notebooks again, after a change of what they show
	@BACKGRID_LEDGER=off $(RUN) nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/0*.ipynb

golden: .venv/for-test  ## Write tests/golden.json again, after a change of numbers that is meant
	@$(VENV_PYTHON) tests/golden.py

pins: .venv/for-uv  ## Write constraints.txt after a change of pyproject.toml (all to the newest: ARGS=--upgrade)
	@printf '%s\n' uv hatchling editables | $(RUN) uv pip compile pyproject.toml - --all-extras --output-file $(PINS) \
	    --python $(VENV_PYTHON) --python-version 3.11 --universal --no-annotate --custom-compile-command 'make pins' \
	    --quiet $(ARGS)

clean:  ## Remove .venv and what tools left behind; reports and prices stay
	rm -rf .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

# What .venv holds is noted by an empty file a purpose, so that a second run installs nothing.
.venv/for-uv: $(PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Backgrid needs Python 3.11 or newer, and \
	$(PYTHON) is %d.%d. Name a newer one, such as: make PYTHON=python3.12 report" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(RUN) pip install --quiet --disable-pip-version-check --constraint $(PINS) uv
	@touch $@

.venv/for-test: EXTRA := [jobs,test]
.venv/for-lab: EXTRA := [lab]
.venv/for-parity: EXTRA := [jobs,test,parity]
# Compiled at once: where Python may not write bytecode (PYTHONDONTWRITEBYTECODE), every report would else compile its
# libraries anew (12 s a report instead of 5).
.venv/for-run .venv/for-test .venv/for-lab .venv/for-parity: .venv/for-uv pyproject.toml $(PINS)
	$(INSTALL) --editable '.$(EXTRA)'
	@$(RUN) compileall -q backgrid
	@touch $@
