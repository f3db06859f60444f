# Two commands do everything from a bare clone: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools tells of every editable installation that its folder should not be shadowed; this one's name is nobody's folder.
QUIETLY := PYTHONWARNINGS='ignore:Editable installation'
STAMP := $(VENV)/.installed
# make test CONSTRAINTS=constraints/exact.txt installs the versions that were tested together, on Python 3.11 and Linux.
CONSTRAINED := $(addprefix --constraint ,$(CONSTRAINTS))

.PHONY: demo test test-pythons test-lowest lowest exact sbom wheel reliability lint check docs bench gpu clean

demo: $(STAMP)  ## draw faces, embed them once, train in seconds, sweep weights, write a page
	$(BIN)/cer-feat demo --output demo-out

test: $(STAMP)  ## the whole test suite
	$(BIN)/python -m pytest -n auto --dist loadfile

test-pythons:  ## quick tests of store, fusion and reliability on every other CPython from 3.11 up that is found, one after another
	$(PYTHON) tests/environments.py pythons

test-lowest:  ## all quick tests with the lowest declared version of every dependency
	$(PYTHON) tests/environments.py lowest

lowest: $(STAMP)  ## resolve those versions anew, after a floor in pyproject.toml has changed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --resolution lowest-direct --python-version 3.11 --extra test --no-annotate \
	  --no-emit-index-url --custom-compile-command 'make lowest' --output-file constraints/lowest.txt pyproject.toml

exact: $(STAMP)  ## resolve anew which versions CONSTRAINTS=constraints/exact.txt installs: the newest that go together
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --extra dev --extra docs --no-annotate \
	  --no-emit-index-url --custom-compile-command 'make exact' --output-file constraints/exact.txt pyproject.toml

sbom: $(STAMP)  ## what is installed, with versions and licences, as CycloneDX: build/sbom.cdx.json
	$(BIN)/python -m pip install --quiet 'cyclonedx-bom>=7'
	mkdir -p build && $(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file build/sbom.cdx.json $(BIN)/python

reliability: $(STAMP)  ## the store's promises, each with its figure; CER_FUZZ_N=10000 for a full run
	$(BIN)/python -m pytest tests/reliability

lint: $(STAMP)  ## style, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test  ## what CI runs

docs: $(STAMP)  ## the site, into build/site: guide, commands, Python API; any warning ends it
	$(QUIETLY) $(BIN)/python -m pip install --quiet $(CONSTRAINED) --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

wheel: $(STAMP)  ## the package as it is published: dist/*.whl and the sources
	$(BIN)/python -m pip install --quiet 'build>=1.2' && $(BIN)/python -m build --outdir dist

bench: $(STAMP)  ## speed as ratios; see benchmarks/RESULTS.md
	$(QUIETLY) $(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m benchmarks.run

gpu: $(STAMP)  ## what wants a CUDA device, step by step; DATA=ferplus.zip WEIGHTS="vit=FILE manet=FILE resnet50=FILE"
	$(BIN)/python -m benchmarks.gpu --data $(DATA) $(addprefix --weights ,$(WEIGHTS)) --output $(or $(OUTPUT),gpu-out)

clean:
	rm -rf $(VENV) build *.egg-info demo-out .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, however: " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(QUIETLY) $(BIN)/python -m pip install --quiet $(CONSTRAINED) --editable '.[dev]'
	mkdir -p $(VENV)/names && ln -sfn ../.. $(VENV)/names/cer_fusion
	touch $(STAMP)
