# Muster. Everything lives in .muster/; only Python 3.11 or newer and a way to the package registries are needed.
# Plain POSIX make: what is clever is in tools/.

PYTHON =
SIMULATE =
TESTS = tests
RUNS =
SAVE =
BASE =
NEW =
ARGS =
SEED =
FAULTS = 150
PLANT =
BIN = .muster/venv/bin
VENV = PYTHON="$(PYTHON)" sh tools/embedded/venv.sh

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

up: ## start PostgreSQL, Kafka and every service; SIMULATE=200 adds a simulated fleet; Ctrl-C stops all
	@$(VENV) embedded
	@if [ -n "$(SIMULATE)" ]; then set -- --simulate "$(SIMULATE)"; fi; exec $(BIN)/python -m tools.cli up "$$@"

down: ## stop servers that a killed `make up` left running
	@$(VENV) embedded
	@$(BIN)/python -m tools.embedded down

test: ## run all tests on servers of their own; TESTS=tests/inventory for some
	@$(VENV) dev
	@$(BIN)/python -m pytest -m "not chaos" $(TESTS)

test-fast: ## run the tests that take seconds, not minutes
	@$(VENV) dev
	@$(BIN)/python -m pytest -m "not slow and not chaos" $(TESTS)

check: ## lint, format, types, import contracts
	@$(VENV) dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy services shared tools tests
	$(BIN)/lint-imports

screenshots: ## draw every screen, light and dark, desktop and phone, to build/screenshots/
	@$(VENV) dev
	@mkdir -p build/screenshots docs/images
	@MUSTER_TEST_CHROMIUM=required MUSTER_SCREENSHOTS=build/screenshots $(BIN)/python -m pytest -q tests/console/test_screens.py
	@cp build/screenshots/devices-desktop-light.png build/screenshots/command-desktop-dark.png docs/images/

assets: ## install what the console's pages need of npm, by the lock file
	@$(VENV) embedded
	@$(BIN)/python -m tools.embedded.assets

events: ## write schemas, AsyncAPI, manifests and docs/events.md from the registry
	@$(VENV) dev
	@$(BIN)/python -m tools.cli generate events

openapi: ## write the merged OpenAPI document from the services' routes
	@$(VENV) dev
	@$(BIN)/python -m tools.cli generate openapi

monitoring: ## write Prometheus rules and Grafana dashboards from tools/monitoring
	@$(VENV) dev
	@$(BIN)/python -m tools.cli generate monitoring

bench: ## measure enrollments, polls, commands, events; RUNS=3 repeats, SAVE=file keeps the lines
	@$(VENV) embedded
	@set -- $(ARGS); if [ -n "$(RUNS)" ]; then set -- "$$@" --runs "$(RUNS)"; fi; \
		if [ -n "$(SAVE)" ]; then set -- "$$@" --save "$(SAVE)"; fi; \
		exec $(BIN)/python -m tools.bench "$$@"

bench-compare: ## compare a saved run, BASE=file, with another, NEW=file, or with one made now
	@$(VENV) embedded
	@if [ -z "$(BASE)" ]; then echo 'say BASE=file: a run saved by make bench SAVE=file' >&2; exit 2; fi
	@new="$(NEW)"; if [ -z "$$new" ]; then new=.muster/bench/new.jsonl; \
		$(BIN)/python -m tools.bench $(ARGS) --runs "$${RUNS:-3}" --save "$$new" >/dev/null; fi; \
		exec $(BIN)/python -m tools.bench.compare "$(BASE)" "$$new"

bench-history: ## polls and drains on an empty database and beside 35 million finished commands
	@$(VENV) embedded
	@set -- $(ARGS); if [ -n "$(RUNS)" ]; then set -- "$$@" --runs "$(RUNS)"; fi; \
		if [ -n "$(SAVE)" ]; then set -- "$$@" --save "$(SAVE)"; fi; \
		exec $(BIN)/python -m tools.bench.history "$$@"

bench-peers: ## the same load on Muster and on NanoMDM, turn about; needs Go to build NanoMDM once
	@$(VENV) embedded
	@set -- $(ARGS); if [ -n "$(SAVE)" ]; then set -- "$$@" --save "$(SAVE)"; fi; \
		exec $(BIN)/python -m tools.bench.peers "$$@"

bench-console: ## every page, filter, order and search of the console with 100,000 devices; ARGS="--devices 5000" for fewer
	@$(VENV) dev
	@$(BIN)/python -m tools.embedded.assets
	@$(BIN)/python -m tools.bench.console $(ARGS)
	@exec $(BIN)/python -m tools.bench --devices 100 --only pages

chaos: ## a storm of 150 faults, some twenty minutes; SEED=7 repeats one, PLANT=no-inbox plants a bug
	@$(VENV) dev
	@set -- --faults "$(FAULTS)"; \
		if [ -n "$(SEED)" ]; then set -- "$$@" --seed "$(SEED)"; fi; \
		if [ -n "$(PLANT)" ]; then set -- "$$@" --plant "$(PLANT)"; fi; \
		exec $(BIN)/python -m tests.chaos.storm "$$@"

chaos-tests: ## faults that ask more of a machine than a test may, such as a disk that is full
	@$(VENV) dev
	@$(BIN)/python -m pytest -m chaos tests

requirements: ## lock requirements/*.in anew, with hashes, without index addresses
	@$(VENV) dev
	@$(BIN)/python -m uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install -q uv
	@for set in run embedded dev; do \
		$(BIN)/python -m uv pip compile -q --universal --python-version 3.11 --generate-hashes \
			--no-header --no-annotate -o requirements/$$set.txt requirements/$$set.in || exit 1; \
	done

clean: ## stop what runs and throw away all data; packages and jars stay
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m tools.embedded down; fi
	rm -rf .muster/state .muster/run .muster/logs .muster/secrets .muster/keys .muster/test .muster/ports.json

.PHONY: help up down test test-fast check assets events openapi monitoring bench bench-compare bench-history bench-peers bench-console chaos chaos-tests requirements clean
