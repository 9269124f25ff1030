# Everything a newcomer needs: `make demo`, `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.PHONY: help assets build demo run test lint integration integration-python integration-node integration-grafana integration-rust \
	deployment release chaos soak collector alertmanager loki prometheus bench evaluate fuzz recording clean

CONFIG ?= config-examples/quickstart.yaml
HARBINGER := target/release/harbinger
# Public sets that are not ours to publish; see integration/README.md.
HARBINGER_DATA_DIR ?= ../shared/data

help: ## what can be made
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

assets: ## fetch the model, its tokenizer and ONNX Runtime into assets/ (by pip, with hashes)
	@python3 integration/assets/fetch.py

build: ## build target/release/harbinger
	cargo build --release --locked

demo: assets build ## run the agent on real recorded logs and show what it says
	@python3 integration/demo.py $(DEMO_FLAGS)

run: assets build ## start the agent: make run CONFIG=my.yaml
	$(HARBINGER) run --config $(CONFIG)

test: assets ## unit, property, conformance and in-process end-to-end tests
	cargo test --locked

lint: ## format, clippy, licences and sources of dependencies
	cargo fmt --all -- --check
	cargo clippy --locked --all-targets -- -D warnings
	@command -v cargo-deny >/dev/null || cargo install --locked cargo-deny@0.20.2
	cargo deny --log-level error check bans licenses sources

collector: ## build the real OpenTelemetry Collector that the integration tests use
	integration/collector/build.sh

alertmanager: ## build the real Alertmanager that the integration tests use
	integration/alertmanager/build.sh

loki: ## build the real Loki that the integration tests use
	integration/loki/build.sh

prometheus: ## build the real Prometheus and promtool that the integration tests use
	integration/prometheus/build.sh

integration-python: target/integration/python/.stamp

target/integration/python/.stamp: integration/api/requirements.txt integration/clients/requirements.txt
	@python3 -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary=:all: \
		--upgrade --target $(@D) $(addprefix -r ,$^)
	@touch $@

integration-node: target/integration/node/.stamp

target/integration/node/.stamp: integration/clients/node/package.json integration/clients/node/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

integration-grafana: target/integration/grafana/.stamp

target/integration/grafana/.stamp: integration/grafana/package.json integration/grafana/package-lock.json integration/grafana/read.mjs
	@mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

integration-rust:
	@cargo build --quiet --locked --manifest-path integration/clients/rust/Cargo.toml --target-dir target/integration/rust

deployment: ## build the reader of Dockerfile, Compose and Kubernetes files that the integration tests use
	integration/deployment/build.sh

target/release-python/.stamp: integration/release/requirements.txt
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes \
		--only-binary=:all: --upgrade --target $(@D) -r $<
	@touch $@

release: assets build target/release-python/.stamp ## pack what runs anywhere: target/release-dist/harbinger-VERSION-ARCH-linux.tar.gz
	@python3 integration/release/release.py

# What the integration tests need beside the agent.
PARTS := collector alertmanager loki prometheus deployment \
	integration-python integration-node integration-grafana integration-rust target/release-python/.stamp

integration: assets build $(PARTS) ## the agent beside real processes: Collector, Alertmanager, Loki, Prometheus, SDKs, kill -9, chaos
	cd integration && python3 -m unittest -v

fuzz: ## look for inputs that break a promise: make fuzz FUZZ_FLAGS="--seconds 600 view splice"
	@python3 fuzz/run.py $(FUZZ_FLAGS)

chaos: assets build integration-python ## the agent killed, its destination failing, all records counted: make chaos CHAOS_FLAGS="--seed 7"
	@cd integration && python3 -m chaos $(CHAOS_FLAGS)

soak: assets build integration-python ## load above what is sustainable, resident memory watched: make soak SOAK_FLAGS="--minutes 5"
	@cd integration && python3 -m chaos.soak $(SOAK_FLAGS)

bench: assets build collector ## the recording through Harbinger and through a plain Collector, interleaved
	@cd integration && python3 bench.py

evaluate: assets build ## every target measured on labelled and healthy logs: make evaluate HARBINGER_DATA_DIR=…
	@python3 integration/evaluation/table.py $(HARBINGER_DATA_DIR) $(EVALUATE_FLAGS)

recording: ## make integration/recording/recording.jsonl.gz anew (40 minutes, needs root; see its README)
	python3 integration/recording/record.py

clean: ## remove what was built; assets/ stays
	cargo clean
