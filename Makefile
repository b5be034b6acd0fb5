# make demo: everything once, on synthetic leaves. make test: every test. make docs: the site, in site/.
# Each creates the environment first, if there is none.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# Without compiled files, each of the many processes that the tests start would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-slow test-faults lint docs clean

demo: $(READY)
	rm -rf demo
	$(BIN)/mnsa synth --cultivars 12 --per-cultivar 20 --size 256 --seed 1 demo/leaves
	$(BIN)/mnsa train configs/demo.toml --data demo/leaves --out demo/run
	$(BIN)/mnsa evaluate demo/run --split test
	$(BIN)/mnsa predict demo/run 'demo/leaves/images/*_001[6-9].jpg' --out demo/predictions  # the test images

test: test-fast test-slow

test-slow: $(READY)
	$(BIN)/pytest -m slow --numprocesses 2 --dist loadfile

test-fast: $(READY)
	$(BIN)/pytest -m "not slow" --numprocesses 2 --dist loadfile

# The full dose of injected faults; test-slow has a short one. It takes an hour.
test-faults: $(READY)
	MNSA_FAULTS=full $(BIN)/pytest -o faulthandler_timeout=0 -m slow tests/faults

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

clean:
	rm -rf $(VENV) demo site

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)
