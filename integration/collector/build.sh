#!/usr/bin/env bash
# Builds the integration tests' OpenTelemetry Collector into target/integration/otelcol.
#
#   build.sh             builds it from the committed Go sources; does nothing when it is up to date
#   build.sh --generate  writes those sources anew from builder-config.yaml (after changing it)
. "$(dirname "$0")/../go_program.sh"
builder=go.opentelemetry.io/collector/cmd/builder@v0.159.0

if [ "${1:-}" = --generate ]; then
  go run "$builder" --config builder-config.yaml --skip-compilation
  gofmt -w ./*.go
fi

compile() { go_build -o "$1/otelcol" .; }
mapfile -d '' -t made_of < <(find . -type f \( -name '*.go' -o -name 'go.*' \) -print0 | sort -z)
build otelcol "${made_of[@]}"
