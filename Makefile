# Two commands, on a machine with Python and make:
#   make demo   poses in the example images, with the base install (no torch)
#   make test   all checks, and all tests that take seconds
# make test-all also runs the slow tests.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv-demo
LIGHT := .venv-light
PIP := pip --disable-pip-version-check install --quiet

.PHONY: demo test test-all lint light clean

demo: dist
	test -x $(DEMO)/bin/pip || $(PYTHON) -m venv $(DEMO)
	$(DEMO)/bin/$(PIP) --force-reinstall --no-deps dist/*.whl
	$(DEMO)/bin/$(PIP) dist/*.whl
	$(DEMO)/bin/featherpose predict --out out src/featherpose/examples
	@echo "Open out/people.jpg; the keypoints are in out/poses.json"

dist: pyproject.toml README.md $(shell find src -name '*.py' -o -name '*.onnx' -o -name '*.json' -o -name '*.jpg')
	rm -rf dist && mkdir dist
	$(PYTHON) -m venv .venv-build
	.venv-build/bin/pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir dist .
	touch dist

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"
	$(MAKE) --no-print-directory light

# The slow tests: some build networks of 60 million parameters and train them for one step.
test-all: test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/python tools/check_phrases.py

# What works without torch, in an environment without it: every module imports, the README's commands run.
light: $(LIGHT)
	$(LIGHT)/bin/python -m pytest -q -m "not torch" tests/test_public.py tests/test_readme.py tests/cli/test_recipe_command.py

.venv: pyproject.toml constraints.txt
	test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	$(BIN)/$(PIP) --constraint constraints.txt --editable '.[train,eval,export,dev]'
	touch .venv

$(LIGHT): pyproject.toml
	test -x $(LIGHT)/bin/pip || $(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/$(PIP) --editable '.[eval]' pytest
	touch $(LIGHT)

clean:
	rm -rf .venv .venv-demo .venv-light .venv-build build dist out
