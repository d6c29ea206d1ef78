// Settings come from the context (`cdk deploy -c otlpEndpoint=https://…`), under the names of template.yaml's
// parameters with a small first letter.
import { App } from 'aws-cdk-lib';

import { OrdersStack } from './lib/orders-stack.js';

const app = new App();
const setting = (name: string) => app.node.tryGetContext(name);
const otlpEndpoint = setting('otlpEndpoint');
if (typeof otlpEndpoint !== 'string') {
  throw new Error('say where the traces go: -c otlpEndpoint=https://collector.example.com:4318');
}
new OrdersStack(app, 'ThroughlineOrders', {
  otlpEndpoint,
  otlpProtocol: setting('otlpProtocol'),
  headersSecretArn: setting('headersSecretArn'),
  headerName: setting('headerName'),
  architecture: setting('architecture'),
  flushStrategy: setting('flushStrategy'),
  maxReceiveCount: setting('maxReceiveCount') === undefined ? undefined : Number(setting('maxReceiveCount')),
  deadLetterConsumer: setting('deadLetterConsumer') === undefined ? undefined : `${setting('deadLetterConsumer')}` === 'true',
  logLevel: setting('logLevel'),
  logRetentionDays: setting('logRetentionDays') === undefined ? undefined : Number(setting('logRetentionDays')),
  artifacts: setting('artifacts') ?? '../../target',
});
