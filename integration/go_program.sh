# Builds a Go program into target/integration, unless what is there is made of the same. Sourced by the build.sh beside each
# program, which says how in `compile FOLDER`, then calls `build "NAME…" FILE…`: the programs, and the files they are made of.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(cd "$here/../.." && pwd)/target/integration
cd "$here"

# No cgo, no debug information: half the linking, two thirds of the size. -mod=readonly holds a build to the committed go.mod and
# go.sum.
go_build() { CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags='-s -w' "$@"; }

# up_to_date STAMP NAME…
up_to_date() {
  local stamp=$1 name
  shift
  for name in "$@"; do [ -x "$out/$name" ] || return 1; done
  [ "$(cat "$out/$1.stamp" 2>/dev/null)" = "$stamp" ]
}

# build "NAME…" FILE…
build() {
  local names stamp started=$SECONDS
  read -ra names <<< "$1"
  shift
  stamp=$({ go version; sha256sum "$@" build.sh ../go_program.sh; } | sha256sum)
  if up_to_date "$stamp" "${names[@]}"; then
    echo "${names[0]} is up to date: $out/${names[0]}"
    return
  fi
  mkdir -p "$out"
  new=$(mktemp -d "$out/${names[0]}.XXXX")
  trap 'rm -rf "$new"' EXIT
  compile "$new"
  mv "${names[@]/#/$new/}" "$out"
  echo "$stamp" > "$out/${names[0]}.stamp"
  echo "${names[*]} built in $((SECONDS - started)) s: $out/${names[0]}"
}
