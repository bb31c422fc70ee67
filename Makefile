# make run    install into .venv, start the sandbox and the gateway on config/gateway.toml
# make test   the whole suite, after make check and make clients
# make check  lint, types, generated documentation
# make clients  install the vendors' clients from npm, and Node.js and Chromium if they are missing
# make cluster  three gateways on three NATS servers, behind a balancer on 8080; says what to try
# make bench  CPU per request and event, as ratios to floors measured in the same run
# make bench-peers  the same orders through nginx with Lua, Envoy and Node-RED, as far as they can be had
# make docs   write the generated parts of the documentation anew, build its site into docs/_build/html
# make linkcheck  ask whether the documentation's links to other hosts still lead somewhere
# make mutate mistakes in every row of the tables, and which of them no test notices
# make mutate-core  MUTANTS=n mistakes in delivery, spool, ingest, app, reload and transport (SEED=n)
# make fuzz   PAYLOADS=n requests to each endpoint, good and bad (SEED=n repeats them)
# make dev    the gateway on 8080, restarted when its code changes, without console and sandbox; 8000 redirects there
#             (stop `make run` first; aiohttp-devtools opens 8000 and 8001 on all addresses of the machine)
# make soak   the obligation ledger under all faults for MINUTES=n; an outage of MEMORY=n events, a replay of REPLAY=n
#             beside live traffic, or a cluster of NODES=3 gateways instead
# make siege  attacks on a default configuration, and their effect on bystanders
# make screenshots  pictures of the console for the documentation
# make install-systemd  as root: the gateway as a service of this machine (docs/deploy/systemd.md)
# make dist   build wheel and sdist into dist/, and check them (docs/releasing.md)
# make spool  keep a spool of this version, for the tests of later ones (docs/releasing.md)
# make sbom   the software bill of materials of the wheel, into build/cdp-gateway.cdx.json
# make audit  known vulnerabilities of the locked packages that run
# make lock   write requirements.lock and requirements.run.lock anew
.DEFAULT_GOAL := run
.PHONY: run cluster test clients check bench bench-peers docs linkcheck mutate mutate-core fuzz dev soak siege screenshots install-systemd dist spool sbom audit lock clean

PYTHON ?= python3
BIN := .venv/bin
RUNNING := .venv/.running
INSTALLED := .venv/.installed
SCHEMA := config/gateway.schema.json
# what common-expression-language needs for its command only (gateway/conditions/__init__.py)
UNUSED := annotated-doc prompt-toolkit shellingham typer wcwidth
DOCS := $(wildcard docs/*.md docs/*/*.md README.md)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# `demo` starts three processes, which compile each module again if they may not keep the result.
export PYTHONDONTWRITEBYTECODE :=

# Python's own pip only fetches the locked one, which installs the rest in half the time.
$(BIN)/pip:
	@echo "creating .venv …"
	@$(PYTHON) -m venv --without-pip .venv
	@sed -n '/^pip==/,/[^\\]$$/p' requirements.run.lock | $(PYTHON) -m pip --python $(BIN)/python \
	  install --quiet --no-compile --no-deps --require-hashes --requirement /dev/stdin 2>/dev/null || \
	  $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; apt-get update -qq && apt-get install -qqy python3-venv && $(PYTHON) -m venv .venv; }

$(RUNNING): pyproject.toml requirements.run.lock | $(BIN)/pip
	@echo "installing into .venv …"
	@$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes --requirement requirements.run.lock
	@$(BIN)/python -m pip install --quiet --no-compile --no-deps --no-build-isolation --editable .
	@touch $@

$(INSTALLED): requirements.lock $(RUNNING)
	@echo "installing what tests and documentation need …"
	@$(BIN)/python -m pip install --quiet --require-hashes --requirement requirements.lock
	@touch $@

run: $(RUNNING)
	@exec $(BIN)/gateway demo

cluster: $(INSTALLED)
	@exec $(BIN)/python -m tests.cluster.demo

test: check clients
	$(BIN)/python -m pytest -n 2 --dist loadgroup

clients:
	@tests/clients/install

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	for each in tests/example_plugins/*/pyproject.toml; do \
	  (cd $$(dirname $$each) && ../../../$(BIN)/mypy --cache-dir ../../../.mypy_cache) || exit 1; done
	for half in tests/example_plugins/acme-*-only; do \
	  MYPYPATH=tests/example_plugins/acme $(BIN)/mypy --strict $$half/test_acme.py || exit 1; done
	$(BIN)/cog --check --check-fail-msg "run make docs" $(DOCS)
	@$(BIN)/gateway schema | cmp -s - $(SCHEMA) || { echo "$(SCHEMA) has changed; run make docs"; exit 1; }

docs: $(INSTALLED)
	$(BIN)/cog -r $(DOCS)
	$(BIN)/gateway schema > $(SCHEMA)
	$(BIN)/python -m sphinx -q -W --keep-going -n -b html docs docs/_build/html

linkcheck: $(INSTALLED)
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/linkcheck

bench: $(INSTALLED)
	$(BIN)/python -m tests.bench

bench-peers: $(INSTALLED)
	$(BIN)/python -m tests.bench.peers $(if $(EVENTS),--events $(EVENTS))

mutate: $(INSTALLED)
	@echo tests/vendors/*/ tests/example_plugins/*/ | xargs -n 1 -P 2 sh -c '\
	  case $$0 in tests/vendors/*) shared=--shared-rows;; esac; \
	  said=$$($(BIN)/python -m pytest -q -p gateway.testing.mutation $$shared "$$0" 2>&1); ended=$$?; \
	  printf "%s\n%s\n" "$$0" "$$said"; exit $$ended'

mutate-core: $(INSTALLED)
	$(BIN)/python -m tests.mutation $(if $(MUTANTS),--mutants $(MUTANTS)) $(if $(SEED),--seed $(SEED))

fuzz: $(INSTALLED)
	$(BIN)/python -m pytest -q -n 2 --maxprocesses 2 -p gateway.testing.fuzz \
	  --payloads $(or $(PAYLOADS),100000) $(if $(SEED),--seed $(SEED)) tests/vendors tests/example_plugins

dev: $(INSTALLED)
	@found=$$($(BIN)/gateway check 2>&1) || { echo "$$found"; exit 1; }
	@if $(BIN)/gateway destinations list >/dev/null 2>&1; then \
	  echo "a gateway runs on this configuration; stop it, for example make run, and try again"; exit 1; fi
	@echo "aiohttp-devtools opens ports 8000 and 8001 on all addresses of this machine; the gateway listens where its file says"
	$(BIN)/adev runserver --app-factory create_app --host 127.0.0.1 --port 8000 --no-livereload gateway/server.py

soak: $(INSTALLED)
	$(BIN)/python -m tests.soak $(if $(MEMORY),--memory $(MEMORY),$(if $(REPLAY),--replay $(REPLAY),--minutes $(or $(MINUTES),5))) \
	  $(if $(NODES),--nodes $(NODES)) $(if $(SEED),--seed $(SEED))

siege: $(INSTALLED)
	$(BIN)/python -m tests.siege

screenshots: $(INSTALLED) clients
	$(BIN)/python -m tests.console.screenshots docs/console

install-systemd:
	@config/deploy/systemd/install

# The tools of releases run in environments of their own, which uv makes and keeps in its cache.
dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/uv build --quiet --no-build-isolation --python $(BIN)/python
	$(BIN)/uv tool run --quiet twine@7.0.0 check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/uv tool run --quiet check-wheel-contents@0.6.3 dist/*.whl

spool: $(INSTALLED)
	$(BIN)/python -m tests.release.write_spool

sbom: dist
	rm -rf build/sbom && mkdir -p build/sbom
	$(BIN)/uv venv --quiet --python $(BIN)/python build/sbom/venv
	for wheel in dist/*.whl; do $(BIN)/uv pip install --quiet --python build/sbom/venv/bin/python \
	  --constraint requirements.lock "$$wheel[cluster,otel,s3]" || exit 1; done
	$(BIN)/uv tool run --quiet --from cyclonedx-bom@7.5.0 cyclonedx-py environment \
	  --pyproject pyproject.toml --output-reproducible --output-file build/cdp-gateway.cdx.json build/sbom/venv/bin/python

audit: $(INSTALLED)
	$(BIN)/uv tool run --quiet pip-audit@2.10.1 --strict --disable-pip --require-hashes --requirement requirements.run.lock

lock: $(INSTALLED)
	$(BIN)/uv pip compile pyproject.toml --group dev --group docs --all-extras --generate-hashes --universal \
	  --no-emit-index-url --no-header --quiet --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --group build --constraint requirements.lock --generate-hashes --universal \
	  $(UNUSED:%=--no-emit-package %) \
	  --no-emit-index-url --no-header --no-annotate --quiet --output-file requirements.run.lock

clean:
	rm -rf .venv tests/clients/node_modules docs/_build build dist var .pytest_cache .mypy_cache .ruff_cache .hypothesis
