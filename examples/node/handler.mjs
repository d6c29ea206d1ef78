// An SQS consumer with the stock OpenTelemetry SDK, exporting to the Throughline layer.
// Each record gets one CONSUMER span that continues the trace of the record's producer.
import { propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { defaultResource, resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';

import { complete, port } from './throughline.mjs';

// The address is written out because `localhost` may mean ::1 first, where the layer does not listen.
const exporter = new OTLPTraceExporter({ url: `http://127.0.0.1:${port}/v1/traces`, timeoutMillis: 1000 });
const provider = new NodeTracerProvider({
  resource: defaultResource().merge(resourceFromAttributes({ 'service.name': process.env.OTEL_SERVICE_NAME ?? 'orders' })),
  spanProcessors: [new BatchSpanProcessor(exporter)],
});
provider.register(); // the W3C propagator, and a context that follows `await`
const tracer = provider.getTracer('orders');

// The event source mapping must have ReportBatchItemFailures, or Lambda deletes the failed records too.
const partialBatch = process.env.THROUGHLINE_PARTIAL_BATCH === '1';

/** Handles a batch; records fail one by one where the mapping allows it. */
export const handler = async (event, context) => {
  try {
    const failed = [];
    for (const record of event.Records) {
      if (!(await handleRecord(record))) failed.push(record.messageId);
    }
    if (failed.length > 0 && (!partialBatch || failed.length === event.Records.length)) {
      throw new Error(`${failed.length} of ${event.Records.length} records failed`);
    }
    return { batchItemFailures: failed.map((itemIdentifier) => ({ itemIdentifier })) };
  } finally {
    // In this order: complete says that nothing more of this invocation will come.
    await provider.forceFlush().catch(() => {});
    await complete(context.awsRequestId);
  }
};

const handleRecord = async (record) => {
  const queue = record.eventSourceARN.split(':').at(-1);
  const options = {
    kind: SpanKind.CONSUMER,
    attributes: {
      'messaging.system': 'aws_sqs',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': queue,
      'messaging.message.id': record.messageId,
      'faas.trigger': 'pubsub',
    },
  };
  return tracer.startActiveSpan(`process ${queue}`, options, producerContext(record), async (span) => {
    try {
      await processOrder(JSON.parse(record.body));
      return true;
    } catch (error) {
      // The type only: messages of errors often quote the payload.
      span.setStatus({ code: SpanStatusCode.ERROR });
      span.setAttribute('error.type', error.name);
      console.warn(`record ${record.messageId} failed: ${error.name}`);
      return false;
    } finally {
      span.end();
    }
  });
};

/** The context of the record's producer, read anew for each record and from nothing but the record. */
const producerContext = (record) => {
  const carrier = {};
  for (const [name, { dataType = '', stringValue }] of Object.entries(record.messageAttributes ?? {})) {
    if (dataType.split('.')[0] === 'String' && stringValue) carrier[name] = stringValue;
  }
  return propagation.extract(ROOT_CONTEXT, carrier);
};

/** The business of the example. */
const processOrder = async (order) =>
  tracer.startActiveSpan('check order', async (span) => {
    try {
      if (order.poison) throw new RangeError('this order always fails');
    } finally {
      span.end();
    }
  });
