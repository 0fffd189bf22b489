# make train | test | test-xla | lint | bench | bench-data | bench-* | verify-all: each makes .venv first if it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
XLA := .venv-xla

.PHONY: help train test test-xla lint bench bench-data bench-strategies bench-rows bench-pipelines bench-largest bench-sweep verify-all clean

help:
	@echo "make train       train PSPNet on the synthetic data set and show the result (under 3 minutes on 2 CPU cores)"
	@echo "make test        run the tests"
	@echo "make test-xla    the tests of strategy=xla on the CPU's XLA device, in an environment of their own, .venv-xla"
	@echo "make lint        style, types, import layers"
	@echo "make bench       timings against a bare loop and torchmetrics, into benchmarks/"
	@echo "make bench-data  samples per second against albumentations and torchvision, into benchmarks/"
	@echo "make bench-strategies  time, memory and traffic of every strategy, into benchmarks/ and docs/ (under 10 minutes)"
	@echo "make bench-rows  memory and bytes of large images whose rows are split (under 10 minutes a model)"
	@echo "make bench-pipelines  memory of pipelines, GPipe against 1F1B (under 4 minutes)"
	@echo "make bench-largest  the largest image that trains in 512 MiB per rank (under 10 minutes)"
	@echo "make bench-sweep  two trials at once against one after another (under 10 minutes)"
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

$(XLA)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "torch_xla 2.9 is there for Python 3.11 to 3.13 and $(PYTHON) is $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.12 test-xla"; exit 1; }
	$(PYTHON) -m venv $(XLA)
	@echo "installing torch_xla and its torch into $(XLA) (some 8 GB; a few minutes)"
	grep -vE '^(torch|torchvision|triton|nvidia-.*|cuda-.*)==' constraints.txt > $(XLA)/constraints.txt
	$(XLA)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(XLA)/constraints.txt \
	  --editable '.[tpu]' pytest
	@touch $@

test-xla: $(XLA)/.ready
	PJRT_DEVICE=CPU $(XLA)/bin/python -m pytest -q tests/xla
	@echo "and a batch that is split over two cores:"
	PJRT_DEVICE=CPU CPU_NUM_DEVICES=2 $(XLA)/bin/python -m pytest -q tests/xla/test_training.py -k test_a_run_is_that_of_the_cpu

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
	$(BIN)/segframe benchmark strategies model=pspnet,segnet ranks=1,2 steps=7 trainer=cpu out=build/strategies \
	  strategy=single,ddp,fsdp,spatial,model_sharded+trainer.accumulate_grad_batches=4,hybrid+data=2+spatial=2; \
	  first=$$?; $(BIN)/segframe benchmark strategies model=pspnet,segnet strategy=single,fsdp ranks=4 steps=3 trainer=cpu \
	  out=build/strategies-4; second=$$?; \
	  $(BIN)/python scripts/strategies_page.py --strategies build/strategies build/strategies-4 && exit $$((first + second))

LARGE := strategy=single,spatial,hybrid+fsdp=2+spatial=2 ranks=2,4 steps=0 trainer=cpu check=none data.batch_size=2 \
  dataset.crop_size=[512,1024] dataset.train.height=512 dataset.train.width=1024 dataset.train.num_images=4

bench-rows: $(READY)
	$(BIN)/segframe benchmark strategies model=pspnet+encoder=resnet50 out=build/rows-pspnet $(LARGE); first=$$?; \
	  $(BIN)/segframe benchmark strategies model=segnet out=build/rows-segnet $(LARGE); second=$$?; \
	  $(BIN)/python scripts/strategies_page.py --rows build/rows-pspnet build/rows-segnet && exit $$((first + second))

bench-pipelines: $(READY)
	$(BIN)/segframe benchmark strategies model=pspnet,segnet ranks=2,4 steps=0 trainer=cpu out=build/pipelines \
	  strategy=single,model_sharded+schedule=gpipe,model_sharded+schedule=1f1b \
	  data.batch_size=16 trainer.accumulate_grad_batches=8; \
	  status=$$?; $(BIN)/python scripts/strategies_page.py --pipelines build/pipelines && exit $$status

bench-largest: $(READY)
	$(BIN)/python scripts/largest_image.py
	$(BIN)/python scripts/strategies_page.py

bench-sweep: $(READY)
	$(BIN)/python scripts/benchmark_sweep.py

verify-all: $(READY)
	$(BIN)/python scripts/verify_all.py

clean:
	rm -rf $(VENV) $(XLA) build dist *.egg-info
