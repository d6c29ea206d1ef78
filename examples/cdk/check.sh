#!/usr/bin/env bash
# Compiles the app, synthesises the stack without the CDK's command line, and compares the template with the snapshot.
#
#   ./check.sh           # exit 1 and a diff when the template changed
#   ./check.sh --write   # takes the template as the new snapshot
#
# The packages are looked for in $THROUGHLINE_TOOLS/cdk (where `cargo xtask test` installs them) and then here (`npm ci`).
set -euo pipefail
cd "$(dirname "$0")"
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

packages=${THROUGHLINE_TOOLS:-$here/../../target/tools}/cdk/node_modules
[ -d "$packages" ] || packages=$here/node_modules
[ -d "$packages" ] || { echo "no packages: run \`npm ci\` in examples/cdk" >&2; exit 1; }
cp -r app.ts lib package.json tsconfig.json "$work"
ln -s "$packages" "$work/node_modules"
cd "$work"
node_modules/.bin/tsc

# Stand-ins: the template is compared, and it does not depend on what the artefacts contain.
for file in layer/x86_64/extensions/throughline-extension lambda/example-{producer,consumer,dlq-consumer}/bootstrap; do
  mkdir -p "artifacts/$(dirname "$file")"
  echo stand-in >"artifacts/$file"
done

CDK_OUTDIR=out CDK_CONTEXT_JSON='{
  "otlpEndpoint": "https://collector.example.com:4318",
  "headersSecretArn": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:collector-AbCdEf",
  "artifacts": "artifacts"
}' node dist/app.js

# Asset hashes follow the stand-ins, so they are left out.
node -e '
  const template = JSON.parse(require("fs").readFileSync("out/ThroughlineOrders.template.json", "utf8"));
  const text = JSON.stringify(template, null, 2).replace(/[0-9a-f]{64}(\.zip)?/g, "<asset>");
  require("fs").writeFileSync("snapshot.json", text + "\n");
'
if [ "${1:-}" = --write ]; then
  cp snapshot.json "$here/snapshot.json"
  echo "examples/cdk/snapshot.json: written"
else
  diff -u "$here/snapshot.json" snapshot.json || { echo "the template changed; ./check.sh --write takes it" >&2; exit 1; }
  echo "examples/cdk: the template is the snapshot's"
fi
