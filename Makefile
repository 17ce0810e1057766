# temper: from a folder of labelled images to a small, fast, stress-tested model in a registry.
# `make help` lists what there is; each target's help stands behind its `##`.

PROJECT ?= .
PYTHON ?= python3
BUSY ?= fail
FORCE ?=
HOST ?=
MINUTES ?= 10
ifneq ($(HOST),)
export TEMPER_HOST := $(HOST)
endif
UV_VERSION := 0.13.9

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
TESTS ?= tests src/temper

.DEFAULT_GOAL := help
.PHONY: help setup init pipeline join plan restore retrain schedule serve compare promote rollback history reproduce drift dvc-yaml docs check test faults ui lock clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET [PROJECT=folder]\n" } \
		/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n  PROJECT=%-12s folder with params.yaml; everything a run leaves lies in it\n' '$(PROJECT)'
	@printf '  FORCE=%-14s stages that pipeline runs though nothing changed, e.g. FORCE="train quantize"\n' '$(FORCE)'
	@printf '  BUSY=%-15s if another run holds the project: fail, wait, or skip\n' '$(BUSY)'
	@printf '  MINUTES=%-11s what init plans for\n' '$(MINUTES)'
	@printf '  HOST=%-14s where hosts train together: address of the first one\n' '$(HOST)'
	@printf '  PYTHON=%-13s interpreter the environment is made from, 3.11 or newer\n' '$(PYTHON)'

setup: $(STAMP) ## make the environment in .venv, pinned by requirements.lock
	@:

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: temper needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); make setup PYTHON=python3.12, for example" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/python || { echo "error: $(PYTHON) -m venv made no environment; install your system's venv package (Debian: python3-venv)" >&2; exit 2; }
	@echo "making the environment in $(VENV): about 6 GB, some minutes the first time"
	@test -x $(VENV)/uv/bin/uv && $(VENV)/uv/bin/uv --version | grep -q '^uv $(UV_VERSION)' \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --prefix $(VENV)/uv uv==$(UV_VERSION)
	@# Bytecode now: where PYTHONDONTWRITEBYTECODE is set, as in many containers, each process would compile again all that it imports.
	VIRTUAL_ENV=$(VENV) $(VENV)/uv/bin/uv pip sync --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(VENV) $(VENV)/uv/bin/uv pip install --quiet --no-deps --editable .
	@touch $@

init: setup ## write a project for the images in FOLDER=..., a folder of class folders or a table (PROJECT=, MINUTES=10, FORCE=1)
	@test -n "$(FOLDER)" || { echo "error: which images? make init FOLDER=~/pets names a folder of class folders, or a .csv or .parquet table" >&2; exit 2; }
	@exec $(BIN)/temper init "$(FOLDER)" $(if $(filter-out .,$(PROJECT)),--project "$(PROJECT)") --minutes $(MINUTES) $(if $(FORCE),--force)

pipeline: setup ## run the whole chain: whatever is stale, then measure and register
	@exec $(BIN)/python -m flows pipeline --tied --project "$(PROJECT)" --busy $(BUSY) --force $(FORCE)

join: setup ## on another host: take part in the trainings of the first one, HOST=address[:port] (docs/scale.md)
	@exec $(BIN)/temper join --project "$(PROJECT)"

plan: setup ## say which stages would run, and why
	@exec $(BIN)/temper plan --project "$(PROJECT)" $(foreach stage,$(FORCE),--force $(stage))

restore: setup ## put back the last good copy of PROJECT's MLflow database, after damage
	@exec $(BIN)/temper restore --project "$(PROJECT)"

retrain: setup ## take in what is new in the inbox or the data, and train again if there is reason to
	@exec $(BIN)/python -m flows retrain --tied --project "$(PROJECT)" --busy $(BUSY)

schedule: setup ## do that by the clock (retrain.cron in params.yaml) until Ctrl-C
	@exec $(BIN)/python -m flows schedule --project "$(PROJECT)"

serve: setup ## the champion behind HTTP on 127.0.0.1:8000 (PORT=n), following promotions, until Ctrl-C
	@exec $(BIN)/temper serve --project "$(PROJECT)" $(if $(PORT),--port "$(PORT)")

compare: setup ## hold two registered versions against each other: FIRST=champion SECOND=challenger, or numbers
	@exec $(BIN)/temper compare --project "$(PROJECT)" $(if $(FIRST),--first "$(FIRST)") $(if $(SECOND),--second "$(SECOND)")

promote: setup ## make VERSION=n (default: the challenger) champion; REASON="..." where the gate says no
	@exec $(BIN)/temper promote --project "$(PROJECT)" $(if $(VERSION),--version "$(VERSION)") $(if $(REASON),--reason "$(REASON)")

rollback: setup ## make the champion before this one champion again; REASON="..." is put on record
	@exec $(BIN)/temper rollback --project "$(PROJECT)" $(if $(REASON),--reason "$(REASON)")

history: setup ## who made which version champion, when and why
	@exec $(BIN)/temper history --project "$(PROJECT)"

drift: setup ## are the images in inbox/unlabelled still like those the champion was trained for?
	@exec $(BIN)/temper drift --project "$(PROJECT)"

reproduce: setup ## make VERSION=n again, in a folder of its own, from what is kept of it: the same digest
	@exec $(BIN)/temper reproduce --project "$(PROJECT)" "$(VERSION)"

dvc-yaml: setup ## write PROJECT's dvc.yaml from the table of stages
	@$(BIN)/temper dvc-yaml --project "$(PROJECT)"

docs: setup ## write the generated pages (docs/params.md)
	@$(BIN)/python docs/make_params.py

check: setup ## format, lint, types, import walls
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check ## all tiers: check, unit, laws, rules, pipeline, ranks (TESTS=tests/unit for one)
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile $(TESTS)

faults: setup ## disturb N=20 small runs (SEED=0 JOBS=2 KIND=kill, write, damage or server): each must end with the same model
	@$(BIN)/python -m tests.faults --trials $(or $(N),20) --seed $(or $(SEED),0) --jobs $(or $(JOBS),2) $(if $(KIND),--kind $(KIND))

ui: setup ## show runs (MLflow, 127.0.0.1:5000) and flows (Prefect, 127.0.0.1:4200) of PROJECT until Ctrl-C
	@exec $(BIN)/temper ui --project "$(PROJECT)"

lock: setup ## resolve pyproject.toml anew into requirements.lock
	$(VENV)/uv/bin/uv pip compile pyproject.toml --extra flow --extra serve --extra bench --extra dev --extra s3 --extra weights --universal --python-version 3.11 --no-emit-index-url -o requirements.lock

clean: ## remove PROJECT's results (artifacts, reports, runs); keeps the environment and DVC's cache
	@test -f "$(PROJECT)/params.yaml" || { echo "error: PROJECT='$(PROJECT)' is no project: it has no params.yaml; nothing was removed" >&2; exit 2; }
	rm -rf -- "$(PROJECT)/artifacts" "$(PROJECT)/reports" "$(PROJECT)/.temper"
	@test ! -d "$(PROJECT)/mlruns" || find "$(PROJECT)/mlruns" -mindepth 1 ! -name .gitignore -delete
