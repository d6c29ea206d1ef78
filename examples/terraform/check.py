#!/usr/bin/env python3
"""Checks that Terraform, SAM and CDK describe the same stack.

No plan is run: the Terraform files are parsed, and compared with template.yaml and the CDK's snapshot.
Needs python-hcl2 and PyYAML. Prints what differs and exits with 1 when something does.
"""

import json
import re
import sys
from pathlib import Path

import hcl2
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
ONLY_TERRAFORM = {"name", "layer_zip", "function_zips"}

mistakes: list[str] = []


def expect(condition: bool, mistake: str) -> None:
    if not condition:
        mistakes.append(mistake)


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def small(name: str) -> str:
    return name[0].lower() + name[1:]


def unquoted(value):
    """python-hcl2 keeps the quotes of names and strings."""
    if isinstance(value, str):
        return value.strip('"')
    if isinstance(value, list):
        return [unquoted(item) for item in value]
    if isinstance(value, dict):
        return {unquoted(key): unquoted(item) for key, item in value.items()}
    return value


def terraform(folder: Path) -> dict:
    """All blocks of a module by kind: {"variable": {"name": {…}}, …}."""
    blocks: dict = {}
    for path in sorted(folder.glob("*.tf")):
        with path.open(encoding="utf-8") as file:
            parsed = unquoted(hcl2.load(file))
        for kind, items in parsed.items():
            if isinstance(items, list):
                for item in items:
                    blocks.setdefault(kind, {}).update({k: v for k, v in item.items() if not k.startswith("__")})
    return blocks


class CloudFormation(yaml.SafeLoader):
    """Reads `!Ref x` as {"Ref": x} and every other short form as {"Fn::Name": x}."""


def short_form(loader, tag, node):
    name = tag if tag in ("Ref", "Condition") else f"Fn::{tag}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}


CloudFormation.add_multi_constructor("!", short_form)


def check_variables(parameters: dict, variables: dict) -> None:
    expected = {snake(name) for name in parameters} | ONLY_TERRAFORM
    for name in sorted(expected ^ set(variables)):
        expect(False, f"variable {name}: only in {'template.yaml' if name in expected else 'variables.tf'}")
    for name, parameter in parameters.items():
        variable = variables.get(snake(name))
        if variable is None:
            continue
        expect(variable["description"] == parameter["Description"], f"{name}: descriptions differ")
        wanted, found = parameter.get("Default"), variable.get("default")
        expect(str(wanted).lower() == str(found).lower(), f"{name}: default {wanted!r} in SAM, {found!r} in Terraform")
        if name != "LogRetentionDays" and variable.get("type") not in ("bool", "${bool}"):
            condition = str(variable.get("validation", ""))
            for value in parameter.get("AllowedValues", []):
                expect(value in condition, f"{name}: Terraform does not allow {value!r}")


def check_template(resources: dict, globals_: dict) -> None:
    timeout = globals_["Function"]["Timeout"]
    for name, resource in resources.items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::SQS::Queue":
            expect(properties["VisibilityTimeout"] >= 6 * timeout, f"template.yaml: {name} is visible again too early")
        if resource["Type"] == "AWS::Serverless::Function":
            partial = properties["Environment"]["Variables"].get("THROUGHLINE_PARTIAL_BATCH") == "1"
            for event in properties["Events"].values():
                reports = "FunctionResponseTypes" in event["Properties"]
                expect(partial == reports, f"template.yaml: {name} answers partially, its mapping does not expect it (or the reverse)")


def check_snapshot(resources: dict) -> None:
    functions = {name: r["Properties"] for name, r in resources.items() if r["Type"] == "AWS::Lambda::Function"}
    mappings = [r["Properties"] for r in resources.values() if r["Type"] == "AWS::Lambda::EventSourceMapping"]
    queues = {name: r["Properties"] for name, r in resources.items() if r["Type"] == "AWS::SQS::Queue"}
    expect((len(functions), len(mappings), len(queues)) == (3, 2, 2), "cdk: not three functions, two mappings, two queues")
    for mapping in mappings:
        function = functions[mapping["FunctionName"]["Ref"]]
        queue = queues[mapping["EventSourceArn"]["Fn::GetAtt"][0]]
        partial = function["Environment"]["Variables"].get("THROUGHLINE_PARTIAL_BATCH") == "1"
        expect(partial and "FunctionResponseTypes" in mapping, "cdk: a partial answer and its mapping do not match")
        expect(queue["VisibilityTimeout"] >= 6 * function["Timeout"], "cdk: a queue is visible again too early")


def check_environment(template: dict, snapshot: dict) -> None:
    """The three set the same variables of ours."""
    sam = set(template["Globals"]["Function"]["Environment"]["Variables"])
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            sam |= set(resource["Properties"]["Environment"]["Variables"])
    cdk = set()
    for resource in snapshot["Resources"].values():
        if resource["Type"] == "AWS::Lambda::Function":
            cdk |= set(resource["Properties"]["Environment"]["Variables"])
    text = "".join(path.read_text(encoding="utf-8") for path in HERE.rglob("*.tf"))
    terraform_ = set(re.findall(r"\b((?:THROUGHLINE|OTEL|ORDERS)_[A-Z_]+) *=", text))
    expect(sam == cdk == terraform_, f"variables differ: SAM {sorted(sam)}, CDK {sorted(cdk)}, Terraform {sorted(terraform_)}")


def check_terraform(blocks: dict) -> None:
    resources = blocks["resource"]
    modules = blocks["module"]
    for name, mapping in resources["aws_lambda_event_source_mapping"].items():
        partial = "local.partial_batch_environment" in str(modules[name]["environment"])
        reports = "local.partial_batch_responses" in str(mapping["function_response_types"])
        expect(partial and reports, f"terraform: {name}: a partial answer and its mapping do not match")
    for name, queue in resources["aws_sqs_queue"].items():
        expect("visibility_seconds" in str(queue["visibility_timeout_seconds"]), f"terraform: queue {name} has a timeout of its own")


def main() -> int:
    with (ROOT / "template.yaml").open(encoding="utf-8") as file:
        template = yaml.load(file, Loader=CloudFormation)
    blocks = terraform(HERE)
    function = terraform(HERE / "function")

    check_variables(template["Parameters"], blocks["variable"])
    for name in sorted({snake(name) for name in template["Outputs"]} ^ set(blocks["output"])):
        expect(False, f"output {name}: only in one of template.yaml and outputs.tf")
    for name, module in blocks["module"].items():
        given = {key for key in module if not key.startswith("__")} - {"source"}
        expect(given == set(function["variable"]), f"module {name}: {sorted(given ^ set(function['variable']))} not given or not known")
    context = (ROOT / "examples/cdk/app.ts").read_text(encoding="utf-8")
    for name in template["Parameters"]:
        expect(f"setting('{small(name)}')" in context, f"examples/cdk/app.ts does not read {small(name)}")

    check_template(template["Resources"], template["Globals"])
    snapshot = json.loads((ROOT / "examples/cdk/snapshot.json").read_text(encoding="utf-8"))
    check_snapshot(snapshot["Resources"])
    check_environment(template, snapshot)
    check_terraform(blocks)

    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    if not mistakes:
        print("template.yaml, examples/cdk and examples/terraform describe the same stack")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
