# `make demo` and `make test` need nothing beforehand: both run tools/setup first, which installs what is missing.

VENV ?= .venv
BIN := $(VENV)/bin
# Labs need root. Nothing that root writes may stay behind in the tree of an ordinary user.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo env PYTHONDONTWRITEBYTECODE=1 HYPOTHESIS_STORAGE_DIRECTORY=/root/.cache/hypothesis CI=$(CI))
PYTEST_ARGS ?=
VM_ARGS ?=
VM_KERNEL ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/k8snetlab/uml
BENCH_ARGS ?=
SERVICES_ARGS ?=

export VENV

.PHONY: help setup demo test vm-test check format bench bench-services bench-dns clean
.NOTPARALLEL:

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

setup:  ## install what is missing (every other target does this first)
	@tools/setup

demo: setup  ## bring up a shop on three nodes, prove every way its parts talk, take it away
	@$(SUDO) tools/demo $(BIN)/k8snetlab

test: setup  ## run every test, with the lab's in namespaces of their own
	@$(SUDO) $(BIN)/python -m pytest -p no:cacheprovider --leak-check $(PYTEST_ARGS)

vm-test: setup  ## run the tests of IPVS and SCTP under a kernel that has them (built once, 8 minutes)
	@tools/vm/build $(VM_KERNEL)
	@$(SUDO) tools/vm/test $(VM_KERNEL) $(BIN)/python $(VM_ARGS)

check: setup  ## formatting, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: setup  ## let ruff write the formatting
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup  ## measure against a C program, ip -batch and mininet; then the rules of 5,000 Services
	@$(SUDO) $(BIN)/python bench/bench.py --k8snetlab $(BIN)/k8snetlab $(BENCH_ARGS)
	@$(MAKE) --no-print-directory bench-services

bench-services: setup  ## only the Services, against iptables-nft-restore, nft and ipvsadm
	@$(SUDO) $(BIN)/python bench/services.py --k8snetlab $(BIN)/k8snetlab $(SERVICES_ARGS)

bench-dns: setup  ## measure the DNS server over its ClusterIP, beside Knot where that is installed
	@$(SUDO) $(BIN)/python bench/dns.py --k8snetlab $(BIN)/k8snetlab $(BENCH_ARGS)

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
