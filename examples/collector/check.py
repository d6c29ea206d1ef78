#!/usr/bin/env python3
"""Checks gateway.yaml as far as that is possible without a Collector. Needs PyYAML; exits with 1 and says what is wrong."""

import re
import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

with (HERE / "gateway.yaml").open(encoding="utf-8") as file:
    config = yaml.safe_load(file)

mistakes = []
service = config["service"]
for name in service["extensions"]:
    if name not in config["extensions"]:
        mistakes.append(f"extension {name} is not defined")
for pipeline, parts in service["pipelines"].items():
    for kind, names in parts.items():
        for name in names:
            if name not in config[kind]:
                mistakes.append(f"{pipeline}: {kind} {name} is not defined")
    processors = parts["processors"]
    if processors[0] != "memory_limiter":
        mistakes.append(f"{pipeline}: the memory limiter is not first")
    if processors.index("redaction") > processors.index("tail_sampling"):
        mistakes.append(f"{pipeline}: redaction comes after sampling")
    if processors[-1] != "batch":
        mistakes.append(f"{pipeline}: batch is not last")

used = {
    name
    for kind in ("receivers", "processors", "exporters")
    for parts in service["pipelines"].values()
    for name in parts[kind]
}
for kind in ("receivers", "processors", "exporters"):
    for name in config[kind]:
        if name not in used:
            mistakes.append(f"{kind} {name} is in no pipeline")

policies = config["processors"]["tail_sampling"]["policies"]
kinds = {policy["type"] for policy in policies}
for kind in ("status_code", "latency", "probabilistic"):
    if kind not in kinds:
        mistakes.append(f"no {kind} policy")
sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "handler-wrapper/src").rglob("*.rs"))
for policy in policies:
    if policy["type"] not in policy:
        mistakes.append(f"policy {policy['name']} has no settings of its type")
    for settings in policy.values():
        key = settings.get("key") if isinstance(settings, dict) else None
        if key and f'"{key}"' not in sources:
            mistakes.append(f"policy {policy['name']}: the wrapper emits no attribute {key}")
for pattern in config["processors"]["redaction"]["blocked_values"]:
    re.compile(pattern)

for mistake in mistakes:
    print(mistake, file=sys.stderr)
if not mistakes:
    print("examples/collector/gateway.yaml: order, names and attributes fit")
sys.exit(1 if mistakes else 0)
