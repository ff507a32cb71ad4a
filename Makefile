# The vocabulary of loopbook, for people, hooks and CI alike. `make` lists it.
# Plain python3 (3.11 to 3.13) and make are all that has to be there.
SHELL := /bin/sh
VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: env
env: $(READY) ## make the environment in .venv from the lock

# uv comes from the lock too, with its hashes, by the pip that python3 brings.
# `sync` and not `install`: only sync honours the lock's exclusions.
$(READY): requirements.lock pyproject.toml src/loopbook_environment.pth
	@python3 -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("loopbook needs Python 3.11 to 3.13; python3 is %d.%d. Put another first on PATH, then: make env" % v)'
	@rm -f '$(READY)'
	@echo 'environment: installing requirements.lock into $(VENV) (a minute or two)'
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $(VENV)/uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --compile-bytecode --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .
	@touch $(READY)

.PHONY: lock
lock: $(READY) ## choose versions anew: pyproject.toml -> requirements.lock
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --all-extras --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
