#!/usr/bin/env bash
# Builds a real Loki into target/integration/loki, from the versions and sums in go.mod and go.sum; does nothing when it is up
# to date. The program is Loki's own `cmd/loki`, its package built as it stands. (It imports grpc's proto codec before anything
# else, without which OpenTelemetry's wire codec panics: a main of our own would have to do the same.)
#
# To take another version: change it in go.mod, with the `replace`s and `exclude`s of Loki's own go.mod (but not the one of
# pkg/push, a folder that the module does not have; the required version stands in), and run `go mod tidy`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../.." && pwd)/target/integration
cd "$here"

stamp=$({ go version; sha256sum go.mod go.sum build.sh; } | sha256sum)
if [ -x "$out/loki" ] && [ "$(cat "$out/loki.stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "loki is up to date: $out/loki"
  exit 0
fi

started=$SECONDS
mkdir -p "$out"
# No cgo, no debug information: half the linking, two thirds of the size. -mod=readonly holds the build to the committed
# go.mod and go.sum.
CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags='-s -w' -o "$out/loki.new" github.com/grafana/loki/v3/cmd/loki
mv "$out/loki.new" "$out/loki"
echo "$stamp" > "$out/loki.stamp"
echo "loki built in $((SECONDS - started)) s: $out/loki"
