# Two commands do all set-up: `make demo` and `make test`. Each makes .venv if it is not there.
# PYTHON may name another interpreter (3.11 or newer): make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test check docs bench chaos fuzz install clean

demo: $(VENV)/.installed
	$(BIN)/predict demo

# More processes than cores, since many tests mostly wait.
test: $(VENV)/.installed-test check
	$(BIN)/python -m pytest -n $$((3 * $$(nproc)))

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site; open site/index.html.
docs: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Some 30 minutes on two cores; the tables go to benchmarks/results/.
bench: $(VENV)/.installed
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/end_to_end.py
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/blend.py
	$(BIN)/python benchmarks/shards.py
	$(BIN)/python benchmarks/arrays.py
	$(BIN)/python benchmarks/sparse_work.py

# Some 30 minutes: 550 faults over five seeds.
chaos: $(VENV)/.installed-test
	$(BIN)/python tests/support/chaos.py --faults 110

# Some two hours: 10,000 mutated files of each kind. What fails is kept in fuzz-failures/.
fuzz: $(VENV)/.installed-test
	$(BIN)/python tests/support/fuzz_files.py --count 10000

install: $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: make demo PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone: its version is pinned, and nothing else may choose another.
$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) install torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install -c constraints.txt -e '.[test]'
# ome-zarr without s3fs, which needs another botocore than moto does, and which no test uses.
	$(PIP) install -c constraints.txt --no-deps ome-zarr deprecated rangehttpserver
	@touch $@

clean:
	rm -rf $(VENV) dist build site predict-demo
