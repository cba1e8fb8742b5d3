# Everything runs in .venv, made on first use from pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench docs clean

demo: .venv/.demo
	$(BIN)/chronocam demo --out demo

test: .venv/.test
	$(BIN)/pytest

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.test
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/speed.py --network r3d_18 --batch 1
	$(BIN)/python benchmarks/speed.py --network cnn-lstm --batch 1
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/long_clip.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/sequence.py
	$(BIN)/python benchmarks/localisation.py
	$(BIN)/python benchmarks/report.py
	KERAS_BACKEND=tensorflow $(BIN)/python benchmarks/speed_keras.py
	KERAS_BACKEND=jax $(BIN)/python benchmarks/speed_keras.py

docs: .venv/.docs
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build
	@echo docs/_build/index.html

.venv/.demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -e '.[torch,train,video]'
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
