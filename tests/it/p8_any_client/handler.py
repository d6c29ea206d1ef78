"""Exports one of everything with the stock OpenTelemetry SDK, over the protocol that the event names.

Answers with what it has sent, so that the test can compare it with what arrived upstream.
"""

import os

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def exporters(protocol, compression):
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        endpoint = f"http://127.0.0.1:{os.environ['THROUGHLINE_GRPC_PORT']}"
        kind = grpc.Compression.Gzip if compression else grpc.Compression.NoCompression
        return [
            exporter(endpoint=endpoint, insecure=True, compression=kind)
            for exporter in (OTLPSpanExporter, OTLPMetricExporter, OTLPLogExporter)
        ]
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    endpoint = f"http://127.0.0.1:{os.environ['THROUGHLINE_HTTP_PORT']}"
    kind = Compression.Gzip if compression else Compression.NoCompression
    return [
        exporter(endpoint=endpoint + path, compression=kind)
        for exporter, path in (
            (OTLPSpanExporter, "/v1/traces"),
            (OTLPMetricExporter, "/v1/metrics"),
            (OTLPLogExporter, "/v1/logs"),
        )
    ]


def handler(event, context):
    spans, metrics, logs = exporters(event["protocol"], event["compression"])
    resource = Resource.create({"service.name": "any-client"})
    return {
        "spans": send_spans(resource, spans),
        "data_points": send_metrics(resource, metrics),
        "log_records": send_logs(resource, logs),
    }


def send_spans(resource, exporter):
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("p8")
    sent = []
    with tracer.start_as_current_span("outer", kind=trace.SpanKind.SERVER) as outer:
        sent.append(told(outer))
        link = trace.Link(outer.get_span_context(), {"why": "test"})
        with tracer.start_as_current_span("inner äöü \U0001f600", links=[link]) as inner:
            inner.set_attributes(
                {
                    "text": 'a "quoted" ü\n',
                    "whole": -(2**53),
                    "real": 0.1,
                    "yes": True,
                    "list": ["a", "b"],
                }
            )
            inner.add_event("happened", {"times": 3})
            inner.set_status(trace.StatusCode.ERROR, "on purpose")
            sent.append(told(inner))
        for number in range(98):
            with tracer.start_as_current_span(f"span {number}") as span:
                sent.append(told(span))
    provider.shutdown()
    return sent


def told(span):
    context = span.get_span_context()
    parent = span.parent
    return {
        "trace_id": f"{context.trace_id:032x}",
        "span_id": f"{context.span_id:016x}",
        "parent_span_id": f"{parent.span_id:016x}" if parent else "",
        "name": span.name,
    }


def send_metrics(resource, exporter):
    exponential = View(instrument_name="wide", aggregation=ExponentialBucketHistogramAggregation())
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], resource, views=[exponential])
    meter = provider.get_meter("p8")
    meter.create_counter("counted").add(3, {"k": "v"})
    meter.create_up_down_counter("moved").add(-1.5)
    meter.create_gauge("level").set(7)
    meter.create_histogram("narrow").record(12)
    meter.create_histogram("wide").record(0.001)
    provider.shutdown()
    return 5


def send_logs(resource, exporter):
    provider = LoggerProvider(resource=resource)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = provider.get_logger("p8")
    for number in range(3):
        logger.emit(severity_number=SeverityNumber.WARN, body={"n": number}, attributes={"k": "v"})
    provider.shutdown()
    return 3
