#!/usr/bin/env bash
# Builds a real Loki into target/integration/loki, from the versions and sums in go.mod and go.sum; does nothing when it is up
# to date. The program is Loki's own `cmd/loki`, its package built as it stands. (It imports grpc's proto codec before anything
# else, without which OpenTelemetry's wire codec panics: a main of our own would have to do the same.)
#
# To take another version: change it in go.mod, with the `replace`s and `exclude`s of Loki's own go.mod (but not the one of
# pkg/push, a folder that the module does not have; the required version stands in), and run `go mod tidy`.
. "$(dirname "$0")/../go_program.sh"

compile() { go_build -o "$1/loki" github.com/grafana/loki/v3/cmd/loki; }
build loki go.mod go.sum
