"""Receives messages with boto3, extracts with the stock propagator, and prints what it continues.

usage: consume.py ENDPOINT QUEUE_URL COUNT
"""

import json
import sys

import boto3
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

endpoint, queue_url, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
trace.set_tracer_provider(TracerProvider())
tracer = trace.get_tracer("consumer")
sqs = boto3.client(
    "sqs",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="id",
    aws_secret_access_key="secret",
)
seen = []
for _ in range(20):
    answer = sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
    for message in answer.get("Messages", []):
        attributes = message["MessageAttributes"]
        carrier = {"traceparent": attributes["traceparent"]["StringValue"]}
        if "tracestate" in attributes:
            carrier["tracestate"] = attributes["tracestate"]["StringValue"]
        parent = TraceContextTextMapPropagator().extract(carrier)
        with tracer.start_as_current_span("process", context=parent) as span:
            seen.append({
                "body": message["Body"],
                "trace_id": format(span.context.trace_id, "032x"),
                "parent": format(span.parent.span_id, "016x"),
                "sampled": span.context.trace_flags.sampled,
                "tracestate": trace.get_current_span(parent).get_span_context().trace_state.to_header(),
            })
        sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    if len(seen) >= count:
        break
print(json.dumps(seen))
