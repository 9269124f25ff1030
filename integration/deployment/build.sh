#!/usr/bin/env bash
# Builds the reader of deployment files (main.go) into target/integration/deployment, from the versions and sums in go.mod and
# go.sum; does nothing when it is up to date.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../.." && pwd)/target/integration
cd "$here"

stamp=$({ go version; sha256sum go.mod go.sum main.go build.sh; } | sha256sum)
if [ -x "$out/deployment" ] && [ "$(cat "$out/deployment.stamp" 2>/dev/null)" = "$stamp" ]; then
  echo "deployment is up to date: $out/deployment"
  exit 0
fi

started=$SECONDS
mkdir -p "$out"
CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags='-s -w' -o "$out/deployment.new" .
mv "$out/deployment.new" "$out/deployment"
echo "$stamp" > "$out/deployment.stamp"
echo "deployment built in $((SECONDS - started)) s: $out/deployment"
