# Every target makes what it needs, the virtual environment included; "make help" lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   := demo
EXTRAS := align,browser,cluster,deep,heic,onnx,places,plot,video
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check
RIVALS  = $(DATA:%=--data %) --keep $(DEMO)/rivals --force $(OPTIONS)

.DEFAULT_GOAL := help
.PHONY: help demo model test test-all lint format dist docs figures architecture bench quality page ablation \
        faults fuzz rivals rivals-gan clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp  ## install, draw faces, train, synthesize, evaluate, show before and after
	$(BIN)/mlr sample $(DEMO)/train --pairs 100 --force
	$(BIN)/mlr sample $(DEMO)/test --pairs 20 --seed 1 --force
	$(BIN)/mlr train $(DEMO)/train -o $(DEMO)/model.npz --force
	$(BIN)/mlr synthesize $(DEMO)/model.npz $(DEMO)/test/neutral -o $(DEMO)/faces --force
	$(BIN)/mlr evaluate $(DEMO)/model.npz $(DEMO)/test --report $(DEMO)/report --force
	$(BIN)/python -m benchmarks.photographs $(DEMO)/model.npz -o $(DEMO)/photographs.jpg
	$(BIN)/python -m benchmarks.paintings -o $(DEMO)/paintings.jpg
	@echo "Before and after: $(DEMO)/report/overview.png, in pictures: $(DEMO)/photographs.jpg"

test: $(VENV)/test.stamp  ## install, and run all tests but the slow ones
	$(BIN)/mlr warmup
	$(BIN)/python -m pytest -n auto

test-all: $(VENV)/test-all.stamp  ## install every extra but rivals, and run all tests
	$(BIN)/mlr warmup
	$(BIN)/python -m pytest -n auto -m ""
	@cat $(VENV)/missing

lint: $(VENV)/lint.stamp  ## check style, docstrings and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/lint.stamp  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(VENV)/dist.stamp  ## build wheel and sdist in dist/, check them, install and try each
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*
	for file in dist/*; do PYTHON="$(PYTHON)" .ci/try "$$file" || exit 1; done

model: $(VENV)/test.stamp  ## train mlr/data/smile.npz again, from the London set in DATA=folder
	$(BIN)/python -m benchmarks.bundle $(DATA)

docs: $(VENV)/docs.stamp  ## build the documentation, in build/docs/; warnings are errors
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going -b html -c docs . build/docs
	@echo "The documentation: build/docs/index.html"

figures: $(VENV)/docs.stamp  ## draw the pictures of the method in docs/figures/, from drawn faces
	test -d $(DEMO)/train || $(BIN)/mlr sample $(DEMO)/train --pairs 100
	$(BIN)/mlr train $(DEMO)/train -o $(DEMO)/model.npz --force
	$(BIN)/python docs/figures.py $(DEMO)/model.npz $(DEMO)/train

architecture: $(BIN)/python  ## draw docs/architecture.svg from the imports
	$(BIN)/python docs/architecture.py

bench: $(VENV)/bench.stamp  ## time every stage, compare with peers; renew table and plots
	$(BIN)/python -m benchmarks.peers --write
	$(BIN)/python -m benchmarks.growth

quality: $(VENV)/quality.stamp  ## cross-validate, by region and skin, on drawn faces or DATA=folder
	test -n "$(DATA)" || test -d $(DEMO)/train || $(BIN)/mlr sample $(DEMO)/train --pairs 100
	$(BIN)/python -m benchmarks.quality $(or $(DATA),$(DEMO)/train) $(OPTIONS)

page: $(VENV)/page.stamp  ## time the page of mlr export in Chromium, on one core
	test -d $(DEMO)/happy || $(BIN)/mlr sample $(DEMO)/happy --pairs 60 --target happy
	$(BIN)/mlr train $(DEMO)/happy -o $(DEMO)/happy.npz --force
	$(BIN)/python -m benchmarks.face_page $(DEMO)/happy.npz

ablation: $(VENV)/quality.stamp  ## measure each part of the default recipe, on drawn faces or DATA=folder
	$(BIN)/python -m benchmarks.ablation $(DATA) --write $(OPTIONS)

faults: $(VENV)/test-all.stamp  ## kill, starve and mislead the program, and check that nothing is lost
	$(BIN)/python -m benchmarks.faults --write

fuzz: $(VENV)/test.stamp  ## feed the program with damaged and hostile input
	$(BIN)/python -m benchmarks.fuzz --write

rivals: $(VENV)/quality.stamp  ## compare with other methods, on drawn faces or on DATA=folder
	$(BIN)/python -m benchmarks.comparison $(RIVALS)

rivals-gan: $(VENV)/rivals.stamp  ## add four GANs, 20 minutes each, to the same tables
	$(BIN)/python -m benchmarks.comparison --gan $(RIVALS)

clean:  ## remove all that these targets made
	rm -rf $(VENV) $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One rule installs the program, editable, with the extra that a target needs (demo: none).
$(VENV)/demo.stamp: EXTRA :=
$(VENV)/test.stamp: EXTRA := [test]
$(VENV)/quality.stamp: EXTRA := [test,align]
$(VENV)/page.stamp: EXTRA := [browser]
$(VENV)/bench.stamp: EXTRA := [test,plot]
$(VENV)/docs.stamp: EXTRA := [docs]
$(VENV)/lint.stamp: EXTRA := [lint,test]
$(VENV)/rivals.stamp: EXTRA := [rivals,test,align,plot]
$(VENV)/dist.stamp: EXTRA := [dist]
$(VENV)/%.stamp: pyproject.toml | $(BIN)/python
	$(PIP) -e ".$(EXTRA)"
	@touch $@

# An extra that cannot be installed here is named, and its tests are skipped.
$(VENV)/test-all.stamp: pyproject.toml | $(VENV)/test.stamp
	@: > $(VENV)/missing
	@$(PIP) -e ".[$(EXTRAS)]" || for extra in $$(echo $(EXTRAS) | tr , ' '); do \
	  $(PIP) -e ".[$$extra]" || \
	    echo "WARNING: NOT TESTED: the extra $$extra, which cannot be installed" | tee -a $(VENV)/missing; \
	done
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
	  { echo "mlr needs Python 3.11 or later: make PYTHON=/path/to/it"; exit 1; }
	$(PYTHON) -m venv $(VENV)
