#!/usr/bin/env bash
# Builds a real Prometheus and its promtool into target/integration, from the version and the sum in go.mod and go.sum; does
# nothing when they are up to date.
#
# Built is Prometheus' own module, with the modules that its own go.mod and go.sum name. `remove_all_sd` leaves out the ways to
# discover targets in clouds, of which the tests use none; without `builtinassets` there is no web page.
# Scraping, rules and queries are as released.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../.." && pwd)/target/integration
cd "$here"

stamp=$({ go version; sha256sum go.mod go.sum build.sh; } | sha256sum)
if [ -x "$out/prometheus" ] && [ -x "$out/promtool" ] && [ "$(cat "$out/prometheus.stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "prometheus is up to date: $out/prometheus"
  exit 0
fi

started=$SECONDS
mkdir -p "$out"
go mod download github.com/prometheus/prometheus
source=$(go list -mod=readonly -m -f '{{.Dir}}' github.com/prometheus/prometheus)
new=$(mktemp -d "$out/prometheus.XXXX")
trap 'rm -rf "$new"' EXIT
# The module's workspace file names modules that are not in it.
(cd "$source" && GOWORK=off CGO_ENABLED=0 \
  go build -mod=readonly -trimpath -tags remove_all_sd -ldflags='-s -w' -o "$new/" ./cmd/prometheus ./cmd/promtool)
mv "$new/prometheus" "$new/promtool" "$out"
echo "$stamp" > "$out/prometheus.stamp"
echo "prometheus and promtool built in $((SECONDS - started)) s: $out/prometheus"
