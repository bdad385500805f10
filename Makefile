# Everything starts here. `make demo` and `make test` set up what is missing by themselves.

JOBS ?= 2
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -p tests.nothing_skipped
# An ordinary user's PATH often lacks the directories of nft, iptables, bridge, ...
export PATH := $(PATH):/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL := C.UTF-8

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests demo vm figures experiments test test-install check mutants bench clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install what is missing: system packages, .venv, the package in it
	@scripts/provision.sh

setup-tests: setup ## what tests need besides: a browser, and a virtual machine where this kernel lacks ip_vs or others
	@scripts/vm_kernel.sh
	@scripts/browser.sh

demo: setup ## run the quickstart: a three-node cluster, its reachability matrix and latencies
	@$(BIN)/mininetes run experiments/quickstart.py

vm: setup ## any command in a throw-away virtual machine with all kernel features: make vm ARGS="up --proxy ipvs"
	@scripts/vm_kernel.sh --anyway
	@$(BIN)/python -m scripts.vm $(ARGS)

figures: setup ## run every experiment at a size for minutes, and make a report; goes on where it was
	@scripts/experiments.sh figures results/figures

experiments: setup ## the same at full size, which takes hours
	@scripts/experiments.sh full results/experiments

test: setup-tests ## run all tests, or these: TESTS="tests/unit ..."; a skipped one fails
	@$(PYTEST) -n $(JOBS) --dist loadfile $(TESTS)

test-install: ## both commands of the README in clean Debian roots (RELEASES, TESTS); hours with all tests, needs root
	@scripts/fresh_machines.sh --tests "$(TESTS)" $(RELEASES)

check: setup ## linters, types, layers, unit and golden tests: no root, seconds
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@scripts/shell_files.sh | xargs -0 shellcheck
	@$(BIN)/lint-imports
	@$(PYTEST) -q -n $(JOBS) tests/unit tests/golden

mutants: setup ## put named defects into services, one at a time: each must make a test fail
	@$(BIN)/python scripts/mutants.py --live --jobs $(JOBS)

bench: setup ## measure against floors and references; prints the ratios
	@status=0; for bench in bench/*.py; do $(BIN)/python "$$bench" || status=1; done; exit $$status

clean: ## remove .venv, what was built, and caches (results stay)
	rm -rf .venv .setup-stamp build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
