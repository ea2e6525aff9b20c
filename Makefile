# Scanside: `make demo` and `make test` work from a bare clone; both set up everything they need under .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INPUT ?=

.PHONY: demo demo-fleet test lint bench deb prove-deb clean

demo: $(VENV)/.demo  ## set up, then send radiographs through the whole appliance and show the page
	@$(BIN)/python -m edge.demo $(if $(INPUT),--input "$(INPUT)")

demo-fleet: $(VENV)/.demo  ## set up, then show twenty simulated boxes, one of them failing, in the manager's page
	@$(BIN)/python -m edge.demo.fleet

test: $(VENV)/.dev  ## set up, then run every test
	@tests/install_system_packages
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.dev  ## ruff, ruff format, mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/.dev  ## measure the README's claims, each beside its peer
	@tests/install_system_packages
	@$(BIN)/python -m benchmarks

deb:  ## build the Debian package into dist/
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@PYTHON="$(CURDIR)/$(BIN)/python" package/build_deb dist

prove-deb:  ## as root: build it twice, and install, use, upgrade and purge it in a bare Debian 12
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@PYTHON="$(CURDIR)/$(BIN)/python" package/prove

clean:  ## remove what these targets made
	rm -rf $(VENV) .demo .demo-fleet .cache .mypy_cache .ruff_cache .pytest_cache build dist

$(VENV)/.demo: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Scanside into $(VENV) (once)."
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Scanside with its tools for export and development into $(VENV) (once)."
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo,export,dev]'
	@touch $@ $(VENV)/.demo
