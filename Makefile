# The doors of this project; `make help` lists them.

PREFIX = /usr/local
DESTDIR =
SYSCONFDIR = /etc
PYTHON = /usr/bin/python3
CHECK = 1

# makes the virtual environment; not the interpreter that an installed rota runs on
HOST_PYTHON = python3
VENV = .venv
PY = $(VENV)/bin/python
STAMP = $(VENV)/.made
TYPED_TESTS = $(wildcard tests/*.py tests/keeper/*.py tests/bus/*.py tests/nix/*.py tests/machine/*.py tests/vm/*.py tests/bench/*.py)

.DEFAULT_GOAL = help
.PHONY: help setup venv unit lint test vm storm demo shell bench docs install uninstall clean

help: ## list what make can do here
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install the Debian packages that tests need, where they are missing (root)
	@PYTHON=$(HOST_PYTHON) tests/machine/setup.sh all

venv: $(STAMP) ## make .venv, with rota in it as .venv/bin/rota

$(STAMP): pyproject.toml
	@PYTHON=$(HOST_PYTHON) tests/machine/setup.sh build
	$(HOST_PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --use-pep517 --editable '.[dev]'
	@touch $@

unit: $(STAMP) ## run the unit tests alone: a few seconds, no root
	$(PY) -m pytest -q -n auto -m 'not nix and not bus and not machine and not vm'

lint: $(STAMP) ## check style, format and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy agents
	$(VENV)/bin/mypy docs/generate.py docs/completions.py docs/nixos.py
	$(VENV)/bin/mypy $(TYPED_TESTS)

test: setup lint ## everything: set up, lint, types, unit tests, private D-Bus, booted machine
	$(PY) -m pytest -m 'not vm'
	@echo "Also run, and clean: Debian packages, ruff check, ruff format --check, mypy."

vm: $(STAMP) ## check limits and accounting in a virtual machine: some five minutes (root, qemu)
	@PYTHON=$(HOST_PYTHON) tests/machine/setup.sh vm
	$(PY) -m pytest tests/vm

storm: setup $(STAMP) ## 1,000 runs while rotad is killed, the journal lost, the plug pulled: minutes (root)
	@$(PY) -m tests.machine.storm_drive

demo: setup $(STAMP) ## show rota at work in a throw-away machine with a real systemd (root)
	@$(PY) -m tests.machine.demo

shell: setup $(STAMP) ## open a root shell in such a machine, rota installed
	@$(PY) -m tests.machine.shell

bench: setup $(STAMP) ## run every benchmark in tests/bench
	@for bench in tests/bench/bench_*.py; do \
	  echo "== $$bench"; PYTHONPATH=$(CURDIR) $(PY) "$$bench" || exit 1; \
	done

docs: $(STAMP) ## make the reference pages again from the code
	$(PY) docs/generate.py
	$(PY) -m tests.nix.make_docs

install: ## install rota: DESTDIR=, PREFIX=/usr/local, PYTHON=/usr/bin/python3
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' PYTHON='$(PYTHON)' CHECK='$(CHECK)' \
	  share/install.sh install

uninstall: ## remove what install put there; /etc/rota and /var/lib/rota stay
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' SYSCONFDIR='$(SYSCONFDIR)' share/install.sh uninstall

clean: ## remove all that make made here: .venv, machines, caches
	@if [ -d .cache/machines ]; then $(HOST_PYTHON) -m tests.machine.clean; fi
	rm -rf --one-file-system .venv .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} + -o -name '*.egg-info' -prune -exec rm -rf {} +
