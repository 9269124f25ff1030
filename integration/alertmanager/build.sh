#!/usr/bin/env bash
# Builds a real Alertmanager into target/integration/alertmanager, from the version and the sum in go.mod and go.sum; does
# nothing when it is up to date.
#
# The module holds everything but the compiled web page (`ui/app/dist`), without which its Go does not build. So it is built
# from a copy with one empty page in that place; its API, which is what the tests speak to, is untouched. The other modules
# are the ones that Alertmanager's own go.mod and go.sum name.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../.." && pwd)/target/integration
cd "$here"

stamp=$({ go version; sha256sum go.mod go.sum build.sh; } | sha256sum)
if [ -x "$out/alertmanager" ] && [ "$(cat "$out/alertmanager.stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "alertmanager is up to date: $out/alertmanager"
  exit 0
fi

started=$SECONDS
mkdir -p "$out"
go mod download github.com/prometheus/alertmanager
source=$(go list -mod=readonly -m -f '{{.Dir}}' github.com/prometheus/alertmanager)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r "$source/." "$copy"
chmod -R u+w "$copy"
mkdir -p "$copy/ui/app/dist"
echo '<!doctype html><title>Alertmanager without its page</title>' > "$copy/ui/app/dist/index.html"
(cd "$copy" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags='-s -w' -o "$out/alertmanager.new" ./cmd/alertmanager)
mv "$out/alertmanager.new" "$out/alertmanager"
echo "$stamp" > "$out/alertmanager.stamp"
echo "alertmanager built in $((SECONDS - started)) s: $out/alertmanager"
