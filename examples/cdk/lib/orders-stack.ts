import { CfnOutput, Stack, StackProps } from 'aws-cdk-lib';
import { HttpApi, HttpMethod, HttpStage } from 'aws-cdk-lib/aws-apigatewayv2';
import { HttpIamAuthorizer } from 'aws-cdk-lib/aws-apigatewayv2-authorizers';
import { HttpLambdaIntegration } from 'aws-cdk-lib/aws-apigatewayv2-integrations';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager';
import { Construct } from 'constructs';

import { smallFunction } from './small-function.js';
import { Throughline } from './throughline.js';
import { TracedSqsFunction } from './traced-sqs-function.js';

/** The parameters of `template.yaml`, under the same names. */
export interface OrdersStackProps extends StackProps {
  readonly otlpEndpoint: string;
  readonly otlpProtocol?: 'http/protobuf' | 'grpc';
  readonly headersSecretArn?: string;
  readonly headerName?: string;
  readonly architecture?: 'x86_64' | 'arm64';
  readonly flushStrategy?: 'end' | 'adaptive';
  readonly maxReceiveCount?: number;
  readonly deadLetterConsumer?: boolean;
  readonly logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'off';
  readonly logRetentionDays?: logs.RetentionDays;
  /** The folder with `layer/<architecture>` (of `cargo xtask package`) and `lambda/<binary>` (of cargo-lambda). */
  readonly artifacts: string;
}

/** The stack of `template.yaml`: HTTP API, producer, orders queue, consumer, dead-letter queue and its consumer. */
export class OrdersStack extends Stack {
  constructor(scope: Construct, id: string, props: OrdersStackProps) {
    super(scope, id, props);
    const arm = props.architecture === 'arm64';
    const throughline = new Throughline(this, 'Throughline', {
      layerPath: `${props.artifacts}/layer/${arm ? 'arm64' : 'x86_64'}`,
      architecture: arm ? lambda.Architecture.ARM_64 : lambda.Architecture.X86_64,
      endpoint: props.otlpEndpoint,
      protocol: props.otlpProtocol,
      flush: props.flushStrategy,
      logLevel: props.logLevel,
      headerName: props.headerName,
      headersSecret: props.headersSecretArn
        ? secretsmanager.Secret.fromSecretCompleteArn(this, 'HeadersSecret', props.headersSecretArn)
        : undefined,
    });
    const common = { throughline, logRetention: props.logRetentionDays };
    const code = (binary: string) => lambda.Code.fromAsset(`${props.artifacts}/lambda/${binary}`);

    const consumer = new TracedSqsFunction(this, 'Consumer', {
      ...common,
      code: code('example-consumer'),
      serviceName: 'orders-consumer',
      maxReceiveCount: props.maxReceiveCount,
    });

    const deadLetterQueue = consumer.deadLetterQueue!;
    new TracedSqsFunction(this, 'DeadLetters', {
      ...common,
      code: code('example-dlq-consumer'),
      serviceName: 'orders-dead-letters',
      queue: deadLetterQueue,
      enabled: props.deadLetterConsumer,
    });

    const producer = smallFunction(this, 'Producer', {
      ...common,
      code: code('example-producer'),
      serviceName: 'orders-producer',
      environment: { ORDERS_QUEUE_URL: consumer.queue.queueUrl },
    });
    consumer.queue.grantSendMessages(producer);

    const api = new HttpApi(this, 'Api', {
      description: 'Takes orders',
      createDefaultStage: false,
      // Callers sign their requests; nobody else can put orders into the queue.
      defaultAuthorizer: new HttpIamAuthorizer(),
    });
    new HttpStage(this, 'Stage', { httpApi: api, autoDeploy: true, throttle: { burstLimit: 20, rateLimit: 10 } });
    api.addRoutes({
      path: '/orders',
      methods: [HttpMethod.POST],
      integration: new HttpLambdaIntegration('Orders', producer),
    });

    new CfnOutput(this, 'OrdersUrl', { value: `${api.apiEndpoint}/orders` });
    new CfnOutput(this, 'OrdersQueueUrl', { value: consumer.queue.queueUrl });
    new CfnOutput(this, 'OrdersDeadLetterQueueUrl', { value: deadLetterQueue.queueUrl });
    new CfnOutput(this, 'OrdersDeadLetterQueueArn', { value: deadLetterQueue.queueArn });
    new CfnOutput(this, 'LayerArn', { value: throughline.layer.layerVersionArn });
  }
}
