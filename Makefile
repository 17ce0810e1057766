# temper: from a folder of labelled images to a small, fast, stress-tested model in a registry.
# `make help` lists the targets. The help of a target is the text after its `##`.

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
# Whole files go to the workers, slow files first (tests/conftest.py); xdist would start files with few tests last.
# There are two workers per core, because tests of whole pipelines wait for a third of their time.
PYTEST = $(BIN)/python -m pytest --numprocesses=$(shell echo $$((2 * $$(nproc)))) --dist=loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup init pipeline join plan restore retrain schedule serve compare promote rollback history reproduce drift dvc-yaml docs check lint test test-all faults ui lock clean

help: ## list the targets
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET [PROJECT=folder]\n" } \
		/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\n  PROJECT=%-12s folder with params.yaml; all results of a run are stored in it\n' '$(PROJECT)'
	@printf '  FORCE=%-14s stages that pipeline runs even if nothing changed, e.g. FORCE="train quantize"\n' '$(FORCE)'
	@printf '  BUSY=%-15s if another run holds the project: fail, wait, or skip\n' '$(BUSY)'
	@printf '  MINUTES=%-11s minutes that the pipeline of init may take\n' '$(MINUTES)'
	@printf '  HOST=%-14s address of the first host, if several hosts train together\n' '$(HOST)'
	@printf '  PYTHON=%-13s interpreter for the environment, 3.11 or newer\n' '$(PYTHON)'

setup: $(STAMP) ## create the environment in .venv, pinned by requirements.lock
	@:

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: temper needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version 2>&1); for example: make setup PYTHON=python3.12" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/python || { echo "error: $(PYTHON) -m venv created no environment; install your system's venv package (Debian: python3-venv)" >&2; exit 2; }
	@echo "creating the environment in $(VENV): about 6 GB, some minutes the first time"
	@test -x $(VENV)/uv/bin/uv && $(VENV)/uv/bin/uv --version | grep -q '^uv $(UV_VERSION)' \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade --prefix $(VENV)/uv uv==$(UV_VERSION)
	@# Compile bytecode now: if PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile its imports again.
	VIRTUAL_ENV=$(VENV) $(VENV)/uv/bin/uv pip sync --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(VENV) $(VENV)/uv/bin/uv pip install --quiet --no-deps --editable .
	@touch $@

init: setup ## write a project for the images in FOLDER=... (class folders, masks, boxes, or a table); PROJECT=, MINUTES=10, FORCE=1
	@test -n "$(FOLDER)" || { echo "error: FOLDER is not set: it must be a folder of class folders, or a .csv or .parquet table; for example: make init FOLDER=~/pets" >&2; exit 2; }
	@exec $(BIN)/temper init "$(FOLDER)" $(if $(filter-out .,$(PROJECT)),--project "$(PROJECT)") --minutes $(MINUTES) $(if $(FORCE),--force)

pipeline: setup ## run the whole pipeline: all stale stages, then measure and register
	@exec $(BIN)/python -m flows pipeline --tied --project "$(PROJECT)" --busy $(BUSY) --force $(FORCE)

join: setup ## on another host: take part in the trainings of the first host, HOST=address[:port] (docs/scale.md)
	@exec $(BIN)/temper join --project "$(PROJECT)"

plan: setup ## print which stages would run, and why
	@exec $(BIN)/temper plan --project "$(PROJECT)" $(foreach stage,$(FORCE),--force $(stage))

restore: setup ## restore the last good backup of PROJECT's MLflow database, after damage
	@exec $(BIN)/temper restore --project "$(PROJECT)"

retrain: setup ## import new examples from the inbox or the data, and train again if there is a reason to
	@exec $(BIN)/python -m flows retrain --tied --project "$(PROJECT)" --busy $(BUSY)

schedule: setup ## retrain on schedule (retrain.cron in params.yaml) until Ctrl-C
	@exec $(BIN)/python -m flows schedule --project "$(PROJECT)"

serve: setup ## serve the champion over HTTP on 127.0.0.1:8000 (PORT=n), following promotions, until Ctrl-C
	@exec $(BIN)/temper serve --project "$(PROJECT)" $(if $(PORT),--port "$(PORT)")

compare: setup ## compare two registered versions: FIRST=champion SECOND=challenger, or numbers
	@exec $(BIN)/temper compare --project "$(PROJECT)" $(if $(FIRST),--first "$(FIRST)") $(if $(SECOND),--second "$(SECOND)")

promote: setup ## make VERSION=n (default: the challenger) the champion; REASON="..." if the gate rejects it
	@exec $(BIN)/temper promote --project "$(PROJECT)" $(if $(VERSION),--version "$(VERSION)") $(if $(REASON),--reason "$(REASON)")

rollback: setup ## make the previous champion the champion again; REASON="..." is recorded
	@exec $(BIN)/temper rollback --project "$(PROJECT)" $(if $(REASON),--reason "$(REASON)")

history: setup ## list who made which version the champion, when and why
	@exec $(BIN)/temper history --project "$(PROJECT)"

drift: setup ## test whether the images in inbox/unlabelled are similar to those that the champion was trained for
	@exec $(BIN)/temper drift --project "$(PROJECT)"

reproduce: setup ## make VERSION=n again, in a separate folder, from its stored inputs, to the same digest
	@exec $(BIN)/temper reproduce --project "$(PROJECT)" "$(VERSION)"

dvc-yaml: setup ## write PROJECT's dvc.yaml from the table of stages
	@$(BIN)/temper dvc-yaml --project "$(PROJECT)"

docs: setup ## write the generated pages (docs/params.md)
	@$(BIN)/python docs/make_params.py

check: lint ## check format, lint, import contracts and types
	$(BIN)/mypy

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

test: check ## run check and all tests but the slow ones (TESTS=tests/unit for a part)
	$(PYTEST) -m "not slow" $(TESTS)

# A slow test checks the types: on a cold cache this takes half a minute on one core, so other tests run beside it.
test-all: lint ## run check and all tests: also whole pipelines, killed trainings, stores, pages
	$(PYTEST) --durations=20 $(TESTS)

faults: setup ## disturb N=20 small runs (SEED=0 JOBS=2 KIND=kill, write, damage or server); each must end with the same model
	@$(BIN)/python -m tests.faults --trials $(or $(N),20) --seed $(or $(SEED),0) --jobs $(or $(JOBS),2) $(if $(KIND),--kind $(KIND))

ui: setup ## show runs (MLflow, 127.0.0.1:5000) and flows (Prefect, 127.0.0.1:4200) of PROJECT until Ctrl-C
	@exec $(BIN)/temper ui --project "$(PROJECT)"

lock: setup ## resolve pyproject.toml again and write requirements.lock
	$(VENV)/uv/bin/uv pip compile pyproject.toml --extra flow --extra serve --extra bench --extra dev --extra s3 --extra weights --universal --python-version 3.11 --no-emit-index-url -o requirements.lock

clean: ## remove PROJECT's results (artifacts, reports, runs); the environment and DVC's cache stay
	@test -f "$(PROJECT)/params.yaml" || { echo "error: PROJECT='$(PROJECT)' is not a project: it has no params.yaml; nothing was removed" >&2; exit 2; }
	rm -rf -- "$(PROJECT)/artifacts" "$(PROJECT)/reports" "$(PROJECT)/.temper"
	@test ! -d "$(PROJECT)/mlruns" || find "$(PROJECT)/mlruns" -mindepth 1 ! -name .gitignore -delete
