#!/usr/bin/env bash
# Builds a real Alertmanager into target/integration/alertmanager, from the version and the sum in go.mod and go.sum; does
# nothing when it is up to date.
#
# The module holds everything but the compiled web page (`ui/app/dist`), without which its Go does not build. So it is built
# from a copy with one empty page in that place; its API, which is what the tests speak to, is untouched. The other modules
# are the ones that Alertmanager's own go.mod and go.sum name.
. "$(dirname "$0")/../go_program.sh"

compile() {
  local module=github.com/prometheus/alertmanager source
  go mod download "$module"
  source=$(go list -mod=readonly -m -f '{{.Dir}}' "$module")
  cp -r "$source/." "$1/source"
  chmod -R u+w "$1/source"
  mkdir -p "$1/source/ui/app/dist"
  echo '<!doctype html><title>Alertmanager without its page</title>' > "$1/source/ui/app/dist/index.html"
  (cd "$1/source" && go_build -o "$1/alertmanager" ./cmd/alertmanager)
}
build alertmanager go.mod go.sum
