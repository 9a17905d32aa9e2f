# Entry points for people. Everything else is cargo's.

SHELL := /bin/bash
CARGO ?= cargo
# Where `make demo` keeps everything: database, images, desktops, passwords, logs.
DATA ?= /var/lib/qvd-demo
# Options for `qvd up`, for instance UP='--listen 0.0.0.0'.
UP ?=
export DATA UP CARGO

.DEFAULT_GOAL := help
.PHONY: help demo status down image check fmt clippy rules test bench

help: ## show this
	@echo "QVD: Linux desktops for many users. As root on Debian 12:"
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20
	@echo "  DATA=$(DATA) says where the demonstration lives."

demo: ## set up and start everything, with a desktop for the user demo
	@packaging/demo up

status: ## what runs of the demonstration, and what is wrong
	@packaging/demo status

down: ## stop the demonstration; its data stays
	@packaging/demo down

image: ## build the image of the demonstration desktop
	@packaging/demo image

check: fmt clippy rules ## format, lints, and the rules of the workspace

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

rules:
	$(CARGO) run --quiet --locked --package xtask -- check

# Tests of one program run in parallel, programs one after the other: two desktops at a time are enough for two cores.
test: check ## everything that proves the code, in under 30 minutes
	$(CARGO) build --workspace --bins --locked
	$(CARGO) test --workspace --locked --no-fail-fast

# One core carries the load, the other one what is measured: nothing else should run.
bench: ## measure what docs/performance.md promises, in ten minutes; needs haproxy
	$(CARGO) run --release --locked --package benches -- all
