PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo lab test test-lowest browser check bench million crashes format clean

demo: .venv/core ## the main job: 250 units x 3 runs against the simulated provider
	$(BIN)/python -m llmlab

lab: .venv/dev ## JupyterLab on the notebooks, in the environment of the project
	$(BIN)/python -m jupyterlab --notebook-dir notebooks

test: .venv/dev ## everything but the browser
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not browser"

test-lowest: .venv-lowest/ready ## the same with the lowest versions of what llmlab needs, but for tests of no library
	.venv-lowest/bin/python -m pytest -q -n auto --dist worksteal -m "not browser" \
		--ignore tests/limits --ignore tests/provider --ignore tests/simulate

browser: .venv/dev ## JupyterLab in a real browser (Debian: apt-get install chromium fonts-dejavu-core)
	$(BIN)/python -m pytest -q -m browser

check: .venv/dev ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports --no-cache

bench: .venv/dev ## benchmarks, interleaved on one local server
	$(BIN)/python -m tests.benchmarks

million: .venv/dev ## what a million answered trials cost
	$(BIN)/python -m tests.benchmarks.million

crashes: .venv/dev ## twenty times kill -9 in a run and ten times around batches of 5,000: nothing is paid twice
	LLMLAB_CRASHES=20 $(BIN)/python -m pytest -q tests/scenarios/test_crash.py -k killed
	LLMLAB_BATCH_UNITS=500 $(BIN)/python -m pytest -q tests/scenarios/test_batch.py -k kills

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/core: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "llmlab needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/dev: .venv/core
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.venv-lowest/ready: pyproject.toml .ci/lowest.py
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) .ci/lowest.py > .venv-lowest/constraints.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' \
		--constraint .venv-lowest/constraints.txt
	touch $@

clean:
	rm -rf .venv .venv-lowest llmlab-demo*
