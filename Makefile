# The course on a machine with Python 3.11 or newer and nothing else. "make" alone lists what there is.
# make course, lab, bench, gpu and colab-check hand ARGS on, for example: make course ARGS="05 --output elsewhere".

PYTHON = python3
VENV = .venv
BIN = $(VENV)/bin
READY = $(VENV)/ready
CHAPTERS = chapters/*.ipynb
SOLVE = --constraint constraints.txt
# One process more than there are processors: some tests wait for others.
WORKERS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest --dist loadfile -p no:benchmark
NBVAL = --nbval-lax --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg

# Without the mark of a finished installation, or without a working Python, the environment is made anew.
WHOLE := $(shell test -f $(READY) && $(BIN)/python -c "" 2>/dev/null && echo yes)

.PHONY: help setup course lab book check fast oldest newest test style bench gpu chapters wheel colab-check address constraints remake

help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1 - \2/p' Makefile | awk -F ' - ' '{ printf "%-24s %s\n", $$1, $$2 }'

setup: $(READY)  ## make .venv and install everything into it (about 6 GB on Linux)

$(READY): pyproject.toml constraints.txt $(if $(WHOLE),,remake)
	@command -v $(PYTHON) >/dev/null || \
	  { echo "There is no $(PYTHON) here: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "The course needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "This Python cannot make virtual environments: install its venv module (Debian, Ubuntu: apt-get install python3-venv)."; exit 1; }
	@test -n "$(WHOLE)" || { echo "Making $(VENV) ..."; $(PYTHON) -m venv --clear $(VENV); }
	@rm -f $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python $(SOLVE) --compile-bytecode --editable ".[dev]"
	@touch $(READY)

course: setup  ## execute every chapter and say which of them work
	@$(BIN)/emc2-lite course $(ARGS)

lab: setup  ## open the chapters in JupyterLab
	@$(BIN)/emc2-lite lab $(ARGS)

book: setup  ## write the course as a web page, in build/book/html: nothing is executed, and no page needs a network
	@$(BIN)/python -m emc2_lite.course.book

check: style fast  ## a minute or two, while you work: style, types, the examples and the fast tests

fast: setup
	$(PYTEST) -n auto --fast tests

oldest:  ## the fast tests with the lowest versions that pyproject.toml allows, in build/oldest
	$(MAKE) fast VENV=build/oldest SOLVE="--resolution lowest-direct"

newest:  ## the fast tests with the newest versions of everything, in build/newest
	@rm -f build/newest/ready
	$(MAKE) fast VENV=build/newest SOLVE=--upgrade

test: style  ## all that CI checks: style, types, the tests, each chapter executed and compared with its stored outputs
	$(PYTEST) -n $(WORKERS) --no-loadscope-reorder $(NBVAL) tests chapters

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup  ## measure speed, as ratios, in about five minutes; a table and a record in build/records (ARGS="-k sampler")
	@cd tests && ../$(BIN)/pytest bench/bench_*.py --benchmark-quiet --benchmark-disable-gc $(ARGS)

gpu: setup  ## a day with a GPU: checks, speed and recorded runs in build/gpu (on a CPU: ARGS="--device cpu --small")
	@$(BIN)/python tests/gpu/day.py $(ARGS)

chapters: setup  ## for authors: execute the chapters in place, with stored figures (CHAPTERS=... for some)
	@$(BIN)/python -m emc2_lite.course.curation $(CHAPTERS)

wheel: setup  ## build the wheel to lay beside a notebook where there is no address, in build/wheel
	@rm -rf build/wheel build/lib
	@$(BIN)/uv build --quiet --wheel --out-dir build/wheel --python $(BIN)/python
	@ls build/wheel/*.whl

colab-check: wheel  ## before a release: chapter 07's recipe on an imitation of Colab (about 6 GB)
	@$(BIN)/python tests/colab/check.py $(ARGS)

address: setup  ## set where notebooks get the library from: make address URL=https://github.com/you/emc2-lite
	@test "$(origin URL)" != undefined || { echo "Say which: make address URL=https://github.com/you/emc2-lite (or URL= for none)"; exit 2; }
	@$(BIN)/python -m emc2_lite.course.address "$(URL)"

constraints: setup  ## solve for the newest versions of everything, in constraints.txt
	$(BIN)/uv pip compile --quiet --universal --upgrade --extra dev --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url --output-file constraints.txt pyproject.toml
