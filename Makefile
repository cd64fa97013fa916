# The tasks of this repository; `make help` lists them. Each is a script that also runs by itself.
.DEFAULT_GOAL := help
.PHONY: help setup demo test quick go format bench load generate clean

help: ## list these tasks
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## .venv and everything the tests need, as the lock files say
	scripts/setup test

demo: ## from an identity token to a revoked certificate in under two minutes
	scripts/demo

test: ## everything CI runs
	scripts/test

go: ## cosign 2 and 3 against the service, Fulcio beside it; needs Go
	scripts/test-go-programs

quick: ## static checks, unit and property tests
	scripts/test --quick

format: ## let ruff rewrite what it can
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

bench: ## the speed figures beside their targets, in one table (scripts/bench --help: all the modes)
	scripts/bench

load: ## ten minutes of realistic load, then too much of it, by locust
	scripts/load

generate: ## write the reference documents and config/ca.toml anew
	for generator in scripts/generate-*; do .venv/bin/python $$generator || exit 1; done

clean: ## remove caches (not .venv)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
