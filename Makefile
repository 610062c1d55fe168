# Every target sets the project up first (scripts/setup.sh, in .venv); after that none needs the network but `lock`.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# The stages of dvc.yaml call `python`: the project's own.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Nothing is sent anywhere, nothing is fetched, and all state stays in this folder.
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
export HF_HUB_OFFLINE ?= 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export PREFECT_HOME ?= $(CURDIR)/.prefect
# The first start of Prefect's server creates its data base, in longer than the default limit of 20 s.
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS ?= 120
export MPLBACKEND ?= Agg
# A virtual environment active in the calling shell does not count.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

PYTEST_ARGS ?=
BENCH_ARGS ?=
LOCK_ARGS ?=

.PHONY: help setup demo test lint bench dashboard retrain serve rollback ablation protocols comparison backbone lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: ## install everything in .venv from requirements.lock
	@scripts/setup.sh

demo: setup ## run the pipeline (dvc repro) and print the table of results
	@dvc repro
	@python -m gsclip.stages.summary

test: setup ## run the tests (PYTEST_ARGS="-k drift" to choose)
	@scripts/browser.sh
	@python -m pytest $(PYTEST_ARGS)

lint: setup ## check style, docstrings and annotations (ruff check) and types (mypy)
	@ruff check
	@mypy

bench: setup ## time ours beside naive code, outputs/bench (BENCH_ARGS="--scans DIR --full-size", "--quick"; half an hour)
	@python -m benchmarks.bench $(BENCH_ARGS)

dashboard: setup ## open the review dashboard on localhost
	@python -m dashboards

retrain: setup ## retrain once in a clone (.gsclip/retrain): gate, registry, report
	@python -m flows.retrain

serve: setup ## schedule, worker and dashboard on localhost, until Ctrl-C
	@python -m flows.serve

rollback: setup ## make the champion before this one the champion again
	@gsclip registry rollback

ablation: setup ## table of what each part of the method adds, 3 seeds (over an hour; goes on where it was stopped)
	@dvc repro experiments/dvc.yaml:table@ablation
	@cat outputs/experiments/ablation.md

protocols: setup ## tables of one-vs-rest and cross-data-set evaluation, 3 seeds (goes on where it was stopped)
	@dvc repro experiments/dvc.yaml:table@protocols
	@cat outputs/experiments/protocols.md

comparison: setup ## table of the model against what is simpler, 3 seeds; params: cross.root, experiments.meshes
	@dvc repro experiments/dvc.yaml:comparison
	@cat outputs/experiments/comparison.md

backbone: setup ## train the embedded backbone anew (about four hours on 2 cores); its weights are in git
	@python -m gsclip.pretraining.backbone

lock: setup ## renew requirements.lock after a change of pyproject.toml (LOCK_ARGS=--upgrade for newer versions)
	@uv pip compile --quiet --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--group dev --extra export $(LOCK_ARGS) pyproject.toml --output-file requirements.lock

clean: ## remove .venv and the tools' caches; data, models and DVC's cache stay
	@rm -rf .venv .pytest_cache .ruff_cache .mypy_cache build dist
	@find . -path ./.git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +
