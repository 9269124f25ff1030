#!/usr/bin/env bash
# Fetches the integration tests' Apache Kafka by Maven, as Java archives, into target/integration/kafka. Needs Java 17 to run.
#
#   build.sh         fetches what pom.xml names, holds it against archives.sha256; does nothing when it is up to date
#   build.sh --pin   writes archives.sha256 anew (after changing pom.xml)
set -euo pipefail
cd "$(dirname "$0")"
target=$(cd ../.. && pwd)/target/integration
out=$target/kafka
stamp() { sha256sum pom.xml archives.sha256 build.sh | sha256sum; }

if [ "${1:-}" != --pin ] && [ "$(cat "$out/.stamp" 2>/dev/null)" = "$(stamp)" ]; then
  echo "kafka is up to date: $out"
  exit
fi
started=$SECONDS
mkdir -p "$target"
new=$(mktemp -d "$target/kafka.XXXX")
trap 'rm -rf "$new"' EXIT
mvn --batch-mode --quiet -Dstyle.color=never --file pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$new"
if [ "${1:-}" = --pin ]; then
  (cd "$new" && sha256sum -- *.jar) > archives.sha256
fi
# Neither another archive, nor one more or less.
diff archives.sha256 <(cd "$new" && sha256sum -- *.jar) >&2
stamp > "$new/.stamp"
chmod 755 "$new"
rm -rf "$out"
mv "$new" "$out"
echo "kafka fetched in $((SECONDS - started)) s: $out"
