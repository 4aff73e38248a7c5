# Every target does its own set-up: it makes .venv and installs the pinned packages when they are missing or changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
THREADS := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
# Installing compiles nothing; the first import does and keeps it, where an image says not to: each start took 20 s more.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup format check test test-slow test-gpu demo docs clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile -c constraints.txt torch
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	$(BIN)/align fit -c dpo --print_config > $(VENV)/first_start.yaml
	touch $@

format: setup  ## rewrite all files in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check test: setup  ## format check, lint, types, tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(THREADS) $(BIN)/pytest -n 3

test-slow: setup  ## the long proofs
	$(THREADS) $(BIN)/pytest -n 2 --dist loadfile --timeout 7200 -m slow

test-gpu: setup  ## what a GPU computes; every test is skipped without one (ALIGN_TEST_DEVICE=cpu runs them dry)
	$(THREADS) $(BIN)/pytest -n 4 -m gpu tests/gpu

demo: setup  ## a reward model and DPO in the synthetic world, a table and a report
	$(BIN)/python experiments/demo/run.py

docs: setup  ## build/site, from all pages; a broken link or reference ends it
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e '.[docs]'
	rm -rf build/docs build/site && mkdir -p build/docs/align/annotation
	cp -R README.md CONTRIBUTING.md CHANGELOG.md LICENSE docs benchmarks experiments configs build/docs/
	cp align/annotation/page.png build/docs/align/annotation/
	$(BIN)/zensical build --strict --clean

clean:
	rm -rf $(VENV) runs build .mypy_cache .ruff_cache .pytest_cache *.egg-info
