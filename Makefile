# Everything runs in .venv, made on first use from pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow contracts fuzz lint bench docs clean

demo: .venv/.demo
	$(BIN)/chronocam demo --out demo

test: .venv/.test
	$(BIN)/pytest -m 'not slow'

# What takes more than a few seconds: whole suites on each backend, the demo, pages of claims, long loops.
slow: .venv/.test
	$(BIN)/pytest -m slow

# The tests of what computes on arrays once more, every annotated shape and type enforced (jaxtyping, beartype).
contracts: .venv/.test
	$(BIN)/pytest --jaxtyping-packages=chronocam.maps,chronocam.layouts,chronocam.metrics,contracts.checked \
	    tests/maps tests/layouts tests/metrics

# Damaged files and odd words at every door; `make fuzz MINUTES=5` is shorter.
MINUTES ?= 30
fuzz: .venv/.test
	PYTHONPATH=tests $(BIN)/python -m fuzz --minutes $(MINUTES)

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/typed.py
	$(BIN)/lint-imports

bench: .venv/.test
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.speed --network resnet50 --batch 8
	$(BIN)/python -m benchmarks.speed --network r3d_18 --batch 1
	$(BIN)/python -m benchmarks.speed --network cnn-lstm --batch 1
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.long_clip
	$(BIN)/python -m benchmarks.reading
	$(BIN)/python -m benchmarks.sequence
	$(BIN)/python -m benchmarks.localisation
	$(BIN)/python -m benchmarks.detectors
	$(BIN)/python -m benchmarks.segmentation
	$(BIN)/python -m benchmarks.transformers
	$(BIN)/python -m benchmarks.attention
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.runs
	KERAS_BACKEND=tensorflow $(BIN)/python -m benchmarks.speed_keras
	KERAS_BACKEND=jax $(BIN)/python -m benchmarks.speed_keras

docs: .venv/.docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build
	@echo docs/_build/index.html

.venv/.demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[demo]'
	touch $@

.venv/.test: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[torch,train,hub,video,dev]'
	touch $@

.venv/.docs: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[torch,docs]'
	touch $@

clean:
	rm -rf .venv build dist demo docs/_build
