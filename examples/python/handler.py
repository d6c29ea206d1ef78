"""An SQS consumer with the stock OpenTelemetry SDK, exporting to the Throughline layer.

Each record gets one CONSUMER span that continues the trace of the record's producer.
"""

import json
import logging
import os

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

import throughline

log = logging.getLogger(__name__)

# The address is written out because `localhost` may mean ::1 first, where the layer does not listen.
provider = TracerProvider()  # takes OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES
exporter = OTLPSpanExporter(endpoint=f"http://127.0.0.1:{throughline.PORT}/v1/traces", timeout=1)
provider.add_span_processor(BatchSpanProcessor(exporter))
tracer = provider.get_tracer("orders")

# The event source mapping must have ReportBatchItemFailures, or Lambda deletes the failed records too.
PARTIAL_BATCH = os.environ.get("THROUGHLINE_PARTIAL_BATCH") == "1"


def handler(event, context):
    """Handles a batch; records fail one by one where the mapping allows it."""
    try:
        failed = [record["messageId"] for record in event["Records"] if not handle_record(record)]
        if failed and (not PARTIAL_BATCH or len(failed) == len(event["Records"])):
            raise RuntimeError(f"{len(failed)} of {len(event['Records'])} records failed")
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
    finally:
        # In this order: complete says that nothing more of this invocation will come.
        provider.force_flush(timeout_millis=1000)
        throughline.complete(context.aws_request_id)


def handle_record(record) -> bool:
    queue = record["eventSourceARN"].rsplit(":", 1)[-1]
    with tracer.start_as_current_span(
        f"process {queue}",
        context=producer_context(record),
        kind=SpanKind.CONSUMER,
        attributes={
            "messaging.system": "aws_sqs",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": queue,
            "messaging.message.id": record["messageId"],
            "faas.trigger": "pubsub",
        },
        record_exception=False,  # messages of exceptions often quote the payload
    ) as span:
        try:
            process(json.loads(record["body"]))
            return True
        except Exception as error:
            span.set_status(Status(StatusCode.ERROR))
            span.set_attribute("error.type", type(error).__qualname__)
            log.warning("record %s failed: %s", record["messageId"], type(error).__qualname__)
            return False


def producer_context(record) -> Context:
    """The context of the record's producer, read anew for each record and from nothing but the record."""
    attributes = record.get("messageAttributes") or {}
    carrier = {
        name: value["stringValue"]
        for name, value in attributes.items()
        if value.get("dataType", "").split(".")[0] == "String" and value.get("stringValue")
    }
    return propagate.extract(carrier, context=Context())


def process(order) -> None:
    """The business of the example."""
    with tracer.start_as_current_span("check order", record_exception=False):
        if order.get("poison"):
            raise ValueError("this order always fails")
