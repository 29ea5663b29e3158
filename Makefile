# `make` lists the targets. Everything is installed into .venv; nothing else on the machine is touched.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup study test lab clean clean-safe

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
STAMP := .venv/.installed
RUN := .venv/bin/python

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install the pinned environment (only when it changed)

# The stamp holds a checksum: a file that is newer but equal (a fresh checkout, a touch) needs no network.
$(STAMP): pyproject.toml constraints.txt
	@if [ -x $(RUN) ] && cat $^ | cksum | cmp -s - $@; then touch $@; exit 0; fi; \
	set -e; \
	if ! $(RUN) -m pip --version >/dev/null 2>&1; then \
		if [ -z "$(PYTHON)" ]; then \
			echo "This study needs Python 3.11 or newer; found: $$(python3 --version 2>&1 || true)." \
				"Install one, or name it: make setup PYTHON=path/to/python3.11" >&2; exit 2; \
		fi; \
		if ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
			echo "This study needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; exit 2; \
		fi; \
		echo "making .venv with $$($(PYTHON) --version)"; $(PYTHON) -m venv .venv; \
	fi; \
	$(RUN) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'; \
	cat $^ | cksum > $@

study: setup ## run every notebook with the quick profile and write the report
	@$(RUN) -m dnslib run
	@echo "report: $(CURDIR)/outputs/quick/report.html"

test: setup ## lint, check the format, run all tests
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest -n auto --no-loadscope-reorder

lab: setup ## open JupyterLab on the notebooks
	@# root, as in a container, has to say that it may
	$(RUN) -m jupyter lab --notebook-dir=notebooks $(if $(filter 0,$(shell id -u)),--allow-root)

clean: ## remove caches of tools only; outputs and .venv stay
	rm -rf .pytest_cache .ruff_cache build *.egg-info
	find . -path ./.venv -prune -o -path ./outputs -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf

clean-safe: clean
