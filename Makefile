# make search   a first search: handwritten digits, three families, about eight minutes
# make test     linters, types, tests
# make clean    removes .venv and what was built
# Each sets up .venv by itself. Choose the interpreter with PYTHON=..., e.g. `make test PYTHON=python3.12`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.PHONY: search test clean browser database interpreter

BIN := .venv/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=strict
# A strict editable install links every file, so it is renewed (seconds) when a file comes or goes.
FILES := $(shell find spaces objectives search studies -type f -not -path '*/__pycache__/*' | LC_ALL=C sort | cksum | cut -d' ' -f1)
LINKED := .venv/.linked-$(FILES)

search: $(LINKED) interpreter
	$(BIN)/coreml-pareto search quickstart

test: $(LINKED) interpreter browser database
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadscope --no-loadscope-reorder

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.installed: pyproject.toml constraints.txt
	@$(BIN)/python -m pip --version >/dev/null 2>&1 && exit 0; $(find_python); "$$python" -m venv --clear .venv
	@echo "Installing coreml-pareto and its dependencies into .venv (several GB with CUDA's libraries on Linux)"
	$(INSTALL) --constraint constraints.txt --editable '.[dev,png]'
	@touch $@

$(LINKED): .venv/.installed
	@rm -f .venv/.linked-*
	$(INSTALL) --no-deps --no-build-isolation --editable .
	@touch $@

# PYTHON=... chooses the interpreter that .venv is made with; one that is there stays.
interpreter:
	@[ -z "$(PYTHON)" ] && exit 0; version='import platform; print(platform.python_version())'; \
	asked=$$("$(PYTHON)" -c "$$version" 2>/dev/null || echo "no Python"); has=$$($(BIN)/python -c "$$version"); \
	[ "$$asked" = "$$has" ] || echo "PYTHON=$(PYTHON) ($$asked) is not used: .venv has Python $$has already; make clean first to change it." >&2

# Sets $python, or says what is missing. `ensurepip` is a package of its own on Debian.
define find_python
for candidate in $(PYTHON) $(if $(PYTHON),,python3.11 python3.12 python3.13 python3 python); do \
	if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then python=$$candidate; break; fi; \
done; \
if [ -z "$${python-}" ]; then \
	echo "coreml-pareto needs Python 3.11, 3.12 or 3.13; found none of them as $(or $(PYTHON),python3.11, python3.12, python3.13, python3 or python). Install one (python.org, apt, brew, pyenv) or say: make PYTHON=/path/to/python" >&2; exit 1; \
fi; \
if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	echo "$$python has no ensurepip, which sets up .venv. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; \
fi
endef

# Charts as PNG are drawn by a browser. Without one their tests are left out by name, or fail where CI=true.
browser: $(LINKED)
	@$(BIN)/python tests/browser.py && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing chromium, which draws charts as PNG"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } >/dev/null || true; \
	fi; \
	$(BIN)/python tests/browser.py || echo "No Chrome or Chromium here: the tests that draw charts as PNG are left out."

# Several machines share a study in a database: the tests start a PostgreSQL server of their own, or are left out likewise.
database: $(LINKED)
	@$(BIN)/python tests/postgres.py && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "Installing postgresql, in which machines share a study"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql; } >/dev/null || true; \
	fi; \
	$(BIN)/python tests/postgres.py || echo "No PostgreSQL server here: the tests that share a study in one are left out."
