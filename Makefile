# `make demo` and `make test` need Python 3.10 to 3.13 with venv, and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Presets, and the names of what they have trained.
RECIPES = dm-digits rnnprop-digits scale-basic-digits scale-hierarchical-digits
# They are compared in another way: docs/learned-muon.md, docs/held-out.md, docs/papers.md.
HELD_OUT = dm-held-out rnnprop-held-out scale-basic-held-out scale-hierarchical-held-out
TRAINED = $(RECIPES) learned-muon $(HELD_OUT) rnnprop-wide dm-mnist rnnprop-mnist

.PHONY: demo test test-slow test-fuzz dist smoke docs figures pretrained reproduction papers ablations comparison estimators tutorials lint clean

demo: $(VENV)/installed
	$(BIN)/python train.py constructor=RNNProp strategy/num_periods=5 directory=runs/demo
	$(BIN)/python evaluate.py runs/demo --problem mlp_classifier

test: $(VENV)/installed lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

# The cases that `make test` leaves out, and each optimizer with each strategy as processes: train,
# kill, resume, evaluate. Then all that Keras' optimizers do, with rules that are compiled.
test-slow: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -m slow
	L2O_XLA=1 $(BIN)/python -m pytest -n 2 tests/contract

# 2,000 damaged, odd or hostile inputs of each kind, other ones each time: about 4 minutes.
test-fuzz: $(VENV)/installed
	L2O_EXAMPLES=2000 $(BIN)/python -m pytest -n 2 tests/test_fuzz.py

# The wheel and the sdist.
dist: $(VENV)/installed
	rm -rf build dist
	$(BIN)/python -m build --quiet

# Both are installed into fresh environments, with their dependencies, and used outside of the clone.
# SMOKE=--borrow takes the dependencies that are here.
smoke: dist
	$(BIN)/python tests/smoke.py $(SMOKE) dist/*

# The documentation as a site, strictly, with its links checked, and offline. To look at it:
# python -m http.server -d site
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# Runs the notebooks of docs/tutorials and keeps their outputs: one to three minutes each.
tutorials: $(VENV)/docs
	$(BIN)/python docs/make_tutorials.py

$(VENV)/docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

# docs/meta-training.png: the default job with each optimizer, 2 to 4 minutes each.
figures: $(VENV)/installed
	for c in DM RNNProp ScaleBasic ScaleHierarchical; do \
	    $(BIN)/python train.py constructor=$$c strategy/num_periods=15 directory=runs/$$c || exit; \
	done
	$(BIN)/python docs/make_figures.py runs/DM runs/RNNProp runs/ScaleBasic runs/ScaleHierarchical

# l2o/weights, one after the other; those that are there go on or stay. The last two need MNIST
# (TFDS_DATA_DIR).
pretrained: $(VENV)/installed
	for p in $(TRAINED); do \
	    $(BIN)/python train.py --preset $$p directory=runs/$$p || exit; \
	done
	$(BIN)/python docs/make_pretrained.py $(TRAINED:%=runs/%)

# The tables and pictures of docs/reproduction.md, and the results on the model cards.
# Those of the ablations are made again where `make ablations` has been.
reproduction: $(VENV)/installed
	for s in dm rnnprop scale refutation generalization; do \
	    $(BIN)/python evaluate.py $(RECIPES) --suite $$s --output runs/reproduction || exit; \
	done
	$(BIN)/python docs/make_stability.py $(RECIPES)
	$(BIN)/python docs/make_reproduction.py runs/reproduction $(wildcard runs/ablations)

# The tables and pictures of docs/comparison.md. It needs MNIST (TFDS_DATA_DIR). What is finished
# stays.
comparison: $(VENV)/installed
	$(BIN)/python docs/make_comparison.py

# The tables of docs/papers-*.md and docs/amalgamation.md. It needs MNIST (TFDS_DATA_DIR). What is
# finished stays.
papers: $(VENV)/installed
	$(BIN)/python docs/make_papers.py
	$(BIN)/python docs/make_variants.py

# docs/estimators.png, and the tables of docs/estimators.md.
estimators: $(VENV)/installed
	$(BIN)/python docs/make_estimators.py

ablations: $(VENV)/installed
	$(BIN)/python docs/make_ablations.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache
