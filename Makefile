# make train | test | lint | bench | bench-data | bench-strategies | verify-all: each makes .venv first if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help train test lint bench bench-data bench-strategies verify-all clean

help:
	@echo "make train       train PSPNet on the synthetic data set and show the result (under 3 minutes on 2 CPU cores)"
	@echo "make test        run the tests"
	@echo "make lint        style, types, import layers"
	@echo "make bench       timings against a bare loop and torchmetrics, into benchmarks/"
	@echo "make bench-data  samples per second against albumentations and torchvision, into benchmarks/"
	@echo "make bench-strategies  time, memory and traffic of every strategy, into benchmarks/ and docs/ (under 8 minutes)"
	@echo "make verify-all  every strategy with every model against one process, into benchmarks/ and docs/ (hours)"

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "segframe needs Python >= 3.11 and $(PYTHON) is $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing PyTorch and the rest into $(VENV) (some 5 GB; a few minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

train: $(READY)
	$(BIN)/python train.py

test: $(READY)
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python scripts/benchmark.py

bench-data: $(READY)
	$(BIN)/python -c 'import albumentations' 2>/dev/null || $(BIN)/python -m pip install --quiet \
	  --disable-pip-version-check --constraint constraints.txt --editable '.[benchmark]'
	$(BIN)/python scripts/benchmark_data.py

bench-strategies: $(READY)
	$(BIN)/segframe benchmark strategies model=pspnet,segnet strategy=single,ddp,fsdp ranks=1,2,4 steps=7 \
	  out=build/strategies; status=$$?; $(BIN)/python scripts/strategies_page.py build/strategies && exit $$status

verify-all: $(READY)
	$(BIN)/python scripts/verify_all.py

clean:
	rm -rf $(VENV) build dist *.egg-info
