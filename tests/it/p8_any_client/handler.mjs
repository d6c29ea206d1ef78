// Exports one of everything with the stock OpenTelemetry SDK, over the protocol that the event names.
// Answers with what it has sent, so that the test can compare it with what arrived upstream.
import { SpanKind, SpanStatusCode, context, trace } from '@opentelemetry/api';
import { SeverityNumber } from '@opentelemetry/api-logs';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchLogRecordProcessor, LoggerProvider } from '@opentelemetry/sdk-logs';
import { AggregationType, MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';

const packages = { grpc: 'grpc', 'http/protobuf': 'proto', 'http/json': 'http' };

const exporters = async (protocol, compressed) => {
  const load = (signal) => import(`@opentelemetry/exporter-${signal}-otlp-${packages[protocol]}`);
  const [{ OTLPTraceExporter }, { OTLPMetricExporter }, { OTLPLogExporter }] =
    await Promise.all(['trace', 'metrics', 'logs'].map(load));
  const port = protocol === 'grpc' ? process.env.THROUGHLINE_GRPC_PORT : process.env.THROUGHLINE_HTTP_PORT;
  const compression = compressed ? 'gzip' : 'none';
  const to = (path) => ({ url: `http://127.0.0.1:${port}${protocol === 'grpc' ? '' : path}`, compression });
  return [
    new OTLPTraceExporter(to('/v1/traces')),
    new OTLPMetricExporter(to('/v1/metrics')),
    new OTLPLogExporter(to('/v1/logs')),
  ];
};

export const handler = async ({ protocol, compression }) => {
  const [spans, metrics, logs] = await exporters(protocol, compression);
  const resource = resourceFromAttributes({ 'service.name': 'any-client' });
  return {
    spans: await sendSpans(resource, spans),
    data_points: await sendMetrics(resource, metrics),
    log_records: await sendLogs(resource, logs),
  };
};

const told = (span) => ({
  trace_id: span.spanContext().traceId,
  span_id: span.spanContext().spanId,
  parent_span_id: span.parentSpanContext?.spanId ?? '',
  name: span.name,
});

const sendSpans = async (resource, exporter) => {
  const provider = new NodeTracerProvider({ resource, spanProcessors: [new BatchSpanProcessor(exporter)] });
  const tracer = provider.getTracer('p8');
  const sent = [];
  const outer = tracer.startSpan('outer', { kind: SpanKind.SERVER });
  sent.push(told(outer));
  const inside = trace.setSpan(context.active(), outer);
  const links = [{ context: outer.spanContext(), attributes: { why: 'test' } }];
  const inner = tracer.startSpan('inner äöü \u{1f600}', { links }, inside);
  inner.setAttributes({ text: 'a "quoted" ü\n', whole: -(2 ** 53), real: 0.1, yes: true, list: ['a', 'b'] });
  inner.addEvent('happened', { times: 3 });
  inner.setStatus({ code: SpanStatusCode.ERROR, message: 'on purpose' });
  sent.push(told(inner));
  inner.end();
  for (let number = 0; number < 98; number++) {
    const span = tracer.startSpan(`span ${number}`, {}, inside);
    sent.push(told(span));
    span.end();
  }
  outer.end();
  await provider.shutdown();
  return sent;
};

const sendMetrics = async (resource, exporter) => {
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 });
  const views = [{ instrumentName: 'wide', aggregation: { type: AggregationType.EXPONENTIAL_HISTOGRAM } }];
  const provider = new MeterProvider({ resource, readers: [reader], views });
  const meter = provider.getMeter('p8');
  meter.createCounter('counted').add(3, { k: 'v' });
  meter.createUpDownCounter('moved').add(-1.5);
  meter.createGauge('level').record(7);
  meter.createHistogram('narrow').record(12);
  meter.createHistogram('wide').record(0.001);
  await provider.shutdown();
  return 5;
};

const sendLogs = async (resource, exporter) => {
  const processors = [new BatchLogRecordProcessor({ exporter })];
  const provider = new LoggerProvider({ resource, processors });
  const logger = provider.getLogger('p8');
  for (let number = 0; number < 3; number++) {
    logger.emit({ severityNumber: SeverityNumber.WARN, body: { n: number }, attributes: { k: 'v' } });
  }
  await provider.shutdown();
  return 3;
};
