#!/usr/bin/env bash
# Builds the reader of deployment files (main.go) into target/integration/deployment, from the versions and sums in go.mod and
# go.sum; does nothing when it is up to date.
. "$(dirname "$0")/../go_program.sh"

compile() { go_build -o "$1/deployment" .; }
build deployment go.mod go.sum main.go
