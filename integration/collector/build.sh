#!/usr/bin/env bash
# Builds the integration tests' OpenTelemetry Collector into target/integration/otelcol.
#
#   build.sh             builds it from the committed Go sources; does nothing when it is up to date
#   build.sh --generate  writes those sources anew from builder-config.yaml (after changing it)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../.." && pwd)/target/integration
builder=go.opentelemetry.io/collector/cmd/builder@v0.159.0
cd "$here"

if [ "${1:-}" = --generate ]; then
  go run "$builder" --config builder-config.yaml --skip-compilation
  gofmt -w ./*.go
fi

# Everything the binary is made of: our sources, the module versions and their sums, the toolchain.
stamp=$({ go version; find . -type f \( -name '*.go' -o -name 'go.*' \) -print0 | sort -z | xargs -0 sha256sum; } | sha256sum)
if [ -x "$out/otelcol" ] && [ "$(cat "$out/otelcol.stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "otelcol is up to date: $out/otelcol"
  exit 0
fi

started=$SECONDS
mkdir -p "$out"
# No cgo, no debug information: half the linking, two thirds of the size. -mod=readonly holds the
# build to the committed go.mod and go.sum.
CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags='-s -w' -o "$out/otelcol.new" .
mv "$out/otelcol.new" "$out/otelcol"
echo "$stamp" > "$out/otelcol.stamp"
echo "otelcol built in $((SECONDS - started)) s: $out/otelcol"
