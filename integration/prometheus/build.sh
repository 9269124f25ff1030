#!/usr/bin/env bash
# Builds a real Prometheus and its promtool into target/integration, from the version and the sum in go.mod and go.sum; does
# nothing when they are up to date.
#
# Built is Prometheus' own module, with the modules that its own go.mod and go.sum name. `remove_all_sd` leaves out the ways to
# discover targets in clouds, of which the tests use none; without `builtinassets` there is no web page.
# Scraping, rules and queries are as released.
. "$(dirname "$0")/../go_program.sh"

compile() {
  local module=github.com/prometheus/prometheus source
  go mod download "$module"
  source=$(go list -mod=readonly -m -f '{{.Dir}}' "$module")
  # The module's workspace file names modules that are not in it.
  (cd "$source" && GOWORK=off go_build -tags remove_all_sd -o "$1/" ./cmd/prometheus ./cmd/promtool)
}
build "prometheus promtool" go.mod go.sum
