# Every target makes the virtual environment that it needs; Python 3.11 and pip are all it asks for.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
READY  := $(VENV)/.ready
RTX    := $(VENV)/.tensorrt-rtx
GPU    := $(VENV)/gpu
PYTEST  = $(BIN)/python -m pytest -q --durations=10 -n auto --maxprocesses 4 --dist worksteal
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-rgb demo-vq test test-full lint bench bench-export fuzz fuzz-readers gpu-check clean

help:
	@echo "make demo       export the small digits model, sample it, compare it with PyTorch"
	@echo "make demo-rgb   RGB patches, and digits between two classes"
	@echo "make demo-vq    two priors and a decoder: pictures, and a part of a photograph redrawn (ARGS=--train trains first)"
	@echo "make test       the tests (ARGS='-k name' chooses some)"
	@echo "make test-full  the tests and the slow checks, TensorRT among them (no GPU needed)"
	@echo "make lint       ruff and mypy"
	@echo "make bench      networks of full size: the public sampler and others beside ours, canvas sizes and batches"
	@echo "make bench-export  one of them exported and verified: time, memory, and that no state is copied"
	@echo "make fuzz       thousands of random networks through the exporter, of hostile files through the readers"
	@echo "make fuzz-readers  the readers alone (ARGS='--kind graph --count 10000' chooses)"
	@echo "make gpu-check  the checks that need an NVIDIA GPU"
	@echo "make clean      remove what these targets made"

# torch first, pinned: see constraints.txt.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools torch
	$(PIP) --no-build-isolation -e '.[cpu,export,examples,dev]'
	@touch $@

$(RTX): $(READY)
	$(PIP) --no-build-isolation -e '.[tensorrt-rtx]'
	@touch $@

# The CPU and the GPU build of ONNX Runtime exclude each other: an environment of its own.
$(GPU)/.ready: $(READY)
	$(PYTHON) -m venv $(GPU)
	$(GPU)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt setuptools torch
	$(GPU)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt --no-build-isolation \
		-e '.[gpu,export,examples,dev]'
	@touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py $(ARGS)

demo-rgb: $(READY)
	$(BIN)/python examples/demo_rgb.py $(ARGS)

demo-vq: $(READY)
	$(BIN)/python examples/demo_vq.py $(ARGS)

test: $(READY)
	$(PYTEST) $(ARGS)

test-full: $(RTX)
	$(PYTEST) -m 'not gpu' $(ARGS)

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

bench: $(READY)
	$(BIN)/python benchmarks/compare $(ARGS)

bench-export: $(READY)
	$(BIN)/python benchmarks/full_size.py $(ARGS)

fuzz: $(READY)
	$(BIN)/python benchmarks/fuzz_readers.py
	$(BIN)/python benchmarks/fuzz_exporter.py $(ARGS)

fuzz-readers: $(READY)
	$(BIN)/python benchmarks/fuzz_readers.py $(ARGS)

gpu-check:
	@command -v nvidia-smi >/dev/null || { echo "gpu-check: no NVIDIA driver on this machine"; exit 1; }
	$(MAKE) $(GPU)/.ready
	$(GPU)/bin/python -m pytest -q -m gpu
	$(GPU)/bin/python benchmarks/gpu_check -o out/gpu $(ARGS)

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
