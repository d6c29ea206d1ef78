"""Sends messages as a Python service with OpenTelemetry does, and prints the spans it made.

usage: produce.py ENDPOINT QUEUE_URL [tracecontext|xray]
"""

import json
import sys

import boto3
from opentelemetry import baggage, context, propagate, trace
from opentelemetry.instrumentation.boto3sqs import Boto3SQSInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

endpoint, queue_url, propagator = sys.argv[1:4]
if propagator == "xray":
    from opentelemetry.propagators.aws import AwsXRayPropagator

    propagate.set_global_textmap(AwsXRayPropagator())

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
Boto3SQSInstrumentor().instrument()

sqs = boto3.client(
    "sqs",
    endpoint_url=endpoint,
    region_name="us-east-1",
    aws_access_key_id="id",
    aws_secret_access_key="secret",
)
context.attach(baggage.set_baggage("tenant", "a"))
sqs.send_message(QueueUrl=queue_url, MessageBody="single")
sqs.send_message_batch(
    QueueUrl=queue_url,
    Entries=[{"Id": str(n), "MessageBody": f"batch-{n}"} for n in range(2)],
)
print(json.dumps([
    {
        "trace_id": format(span.context.trace_id, "032x"),
        "span_id": format(span.context.span_id, "016x"),
        "kind": span.kind.name,
    }
    for span in exporter.get_finished_spans()
]))
