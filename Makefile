# The commands of this project, for people, hooks and CI alike. `make` lists them.
# Plain python3 (3.11 to 3.13) and make are all that has to be there.
SHELL := /bin/sh
VENV  := .venv
PYTHON := python3
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
# >>> project
# export UV_FIND_LINKS := vendor
# <<<

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

.PHONY: env
env: $(READY) ## make the environment in .venv from requirements.lock

# uv comes from the lock too, with its hashes, by the pip that python3 brings.
# `sync` and not `install`: only sync honours the lock's exclusions.
# Modules are compiled once here, but for 190 MB that hardly anything imports:
# other packages' tests and plotly's generated classes. Python compiles those it
# meets; a file that does not compile (a template, Python 2) is nobody's module.
# >>> loopbook
$(READY): requirements.lock pyproject.toml src/loopbook_environment.pth
# <<<
# >>> project
# $(READY): requirements.lock
# <<<
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("loopbook needs Python 3.11 to 3.13; python3 is %d.%d. Put another first on PATH, then: make env" % v)'
	@rm -f '$(READY)'
	@echo 'environment: installing requirements.lock into $(VENV) (a minute or two)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $(VENV)/uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
# >>> loopbook
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --offline --no-deps --no-build-isolation --editable .
# <<<
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/|/plotly/(validators|graph_objs)/' $(VENV)/lib || true
	@touch $(READY)

# >>> loopbook
# What DVC adds to the environment; `make env` takes it away again when the lock changes.
.PHONY: dvc
dvc: $(VENV)/.dvc ## add DVC to .venv: share snapshots, run its tests

$(VENV)/.dvc: $(READY) requirements-dvc.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode --require-hashes --requirement requirements-dvc.lock
	@touch $(VENV)/.dvc

# And what Weights & Biases adds.
.PHONY: wandb
wandb: $(VENV)/.wandb ## add Weights & Biases to .venv, run its tests

$(VENV)/.wandb: $(READY) requirements-wandb.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode --require-hashes --requirement requirements-wandb.lock
	@touch $(VENV)/.wandb

# Airflow wants other versions of our packages, so it never goes into .venv.
.PHONY: airflow
airflow: .venv-airflow/.ready ## make .venv-airflow, where the exported DAGs are tested

.venv-airflow/.ready: $(READY) requirements-airflow.lock
	@test -x .venv-airflow/bin/python || $(PYTHON) -m venv --without-pip .venv-airflow
	@$(BIN)/uv pip sync --quiet --python .venv-airflow/bin/python --require-hashes requirements-airflow.lock
	@touch .venv-airflow/.ready

.PHONY: engines
engines: .venv-engines/.ready ## make .venv-engines, where other exports are tested

.venv-engines/.ready: $(READY) requirements-engines.lock
	@test -x .venv-engines/bin/python || $(PYTHON) -m venv --without-pip .venv-engines
	@$(BIN)/uv pip sync --quiet --python .venv-engines/bin/python --require-hashes requirements-engines.lock
	@touch .venv-engines/.ready

# <<<
.PHONY: build
build: $(READY) ## run the notebooks that are out of date; ends with a champion
	@$(BIN)/loopbook build

.PHONY: status
status: $(READY) ## show what serves, how old it is and what is stale
	@$(BIN)/loopbook status

.PHONY: lab
lab: $(READY) ## edit the notebooks in JupyterLab, with their real parameters
	@$(BIN)/jupyter lab

.PHONY: mlflow
mlflow: $(READY) ## see runs, models and versions at http://127.0.0.1:5000
	@$(BIN)/mlflow ui --workers 1

.PHONY: serve
serve: $(READY) ## start the prediction service at http://127.0.0.1:8000/docs
	@$(BIN)/python -m serving

.PHONY: monitor
monitor: $(READY) ## judge the newest answers: drift, error and one verdict
	@$(BIN)/loopbook monitor

.PHONY: loop
loop: $(READY) ## monitor, retrain when it pays, gate and promote, in turns
	@$(BIN)/loopbook loop

# Promoted (10) and refused (20) are turns that went well; 30, 40 and 1 want a person.
.PHONY: turn
turn: $(READY) ## take one turn of the loop; fails where a person has to look
	@$(BIN)/loopbook loop --once || case $$? in 10|20) ;; *) exit $$? ;; esac

STEP ?= week
.PHONY: replay
replay: $(READY) ## send past rows through the loop; SCENARIO=storm STEP=month
	@$(BIN)/loopbook replay $(SCENARIO) --step $(STEP)

# Both versions are built, each in its own folder, so the clone needs its history.
MAIN ?= origin/main
.PHONY: diff
diff: $(READY) ## write var/diff.md: what this commit makes of main's champion
	@bash .ci/diff make $(MAIN) var/diff.md

.PHONY: data
data: $(READY) ## check the contract against its table, then build
	@$(BIN)/loopbook check
	@$(BIN)/loopbook build

.PHONY: reports
reports: $(READY) ## open the dashboards at http://127.0.0.1:8866
	@$(BIN)/voila reports

# >>> loopbook
# As many tests run side by side as WORKERS says. ALL=1 is for the schedule: it
# adds the four scenarios that take minutes each.
WORKERS ?= 2
ALL     ?=
# PART=fast and PART=slow together are all of them, each once; CI has a job for each.
PART    ?=

# No __pycache__ in the tree's folders is a change; tests leave the tree clean.
.PHONY: check
check: $(READY) ## run the linter and the quick tests, about a minute
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet src serving tests bench
	@$(BIN)/python -m pytest -q -m 'not slow and not medium' -n $(WORKERS) -p no:cacheprovider

ONLY  = $(if $(filter fast,$(PART)),not slow,$(PART))
MARKS = $(if $(PART),-m '$(ONLY)$(if $(ALL),, and not nightly)',$(if $(ALL),,-m 'not nightly'))
.PHONY: test
test: $(READY) ## run all tests but the nightly ones (with them: ALL=1)
	@$(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet src serving tests bench
	@$(BIN)/python -m pytest -q $(MARKS) -n $(WORKERS) -p no:cacheprovider

# As of this day the candidates are compared on the example; its error is in the README.
AS_OF ?= 2014-10-01
.PHONY: bench
bench: $(READY) ## measure speed and quality, ours and those of others
	@$(BIN)/python -m bench --as-of $(AS_OF)

.PHONY: picture
picture: $(READY) ## draw the graph of pipeline.yaml into docs/graph.svg
	@$(BIN)/loopbook picture docs/graph.svg

.PHONY: screenshots
screenshots: $(READY) ## take docs/*.png again, of a project made for it
	@$(BIN)/python -m bench.screenshots

IMAGES ?=
.PHONY: release
release: $(READY) ## write dist/VERSION: wheel, dossier, digests, signature
	@$(BIN)/python deploy/release.py $(if $(IMAGES),--images)

COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'
EXTRAS  = postgresql redis dask openlineage dev bench

.PHONY: lock
lock: $(READY) ## choose versions anew: pyproject.toml to the seven locks
	@$(COMPILE) --upgrade $(EXTRAS:%=--extra %) --output-file requirements.lock pyproject.toml
	@$(COMPILE) --constraint requirements.lock --output-file deploy/service.lock deploy/service.in
	@$(COMPILE) --constraint requirements.lock --extra project --extra postgresql --extra redis --output-file src/loopbook/project/skeleton/requirements.lock pyproject.toml
	@sed -n 's/^dvc = \["\(.*\)"\]$$/\1/p' pyproject.toml | $(COMPILE) --constraint requirements.lock --output-file requirements-dvc.lock -
	@sed -n 's/^wandb = \["\(.*\)"\]$$/\1/p' pyproject.toml | $(COMPILE) --constraint requirements.lock --output-file requirements-wandb.lock -
	@$(COMPILE) --upgrade --group airflow --output-file requirements-airflow.lock
	@$(COMPILE) --upgrade --group engines --output-file requirements-engines.lock

# <<<
# >>> project
# .PHONY: check
# check: $(READY) ## run the linter and the fast tests: contract and notebooks
# 	@$(BIN)/ruff check --quiet .
# 	@$(BIN)/python -m pytest -q -m 'not slow'
#
# .PHONY: test
# test: $(READY) ## run all tests, with a build on a sample and the service
# 	@$(BIN)/ruff check --quiet .
# 	@$(BIN)/python -m pytest -q
#
# .PHONY: lock
# lock: $(READY) ## choose versions anew: pyproject.toml to requirements.lock
# 	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --all-extras --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml
#
# <<<
# The Prometheus Operator's copy of the alerts: its head, then the rules, indented.
ALERTS = deploy/kubernetes/monitoring/alerts.yaml
.PHONY: alerts
alerts: ## copy the alerts into the file of the Prometheus Operator
	@{ sed '/^spec:/q' $(ALERTS); sed -n '/^groups:/,$$s/^./  &/p' deploy/prometheus/alerts.yml; } > $(ALERTS).new
	@mv $(ALERTS).new $(ALERTS)

.PHONY: clean
clean: ## delete var/, all that runs have made; .venv stays
	@rm -rf var
