import { Duration } from 'aws-cdk-lib';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import { SqsEventSource } from 'aws-cdk-lib/aws-lambda-event-sources';
import * as sqs from 'aws-cdk-lib/aws-sqs';
import { Construct } from 'constructs';

import { defaultTimeout, smallFunction, SmallFunctionProps } from './small-function.js';

/** A function and the queue it consumes. */
export interface TracedSqsFunctionProps extends SmallFunctionProps {
  /** The queue to consume. Default: a new one with a dead-letter queue behind it. */
  readonly queue?: sqs.IQueue;
  /** How often a message is tried before it moves to the dead-letter queue, for a new queue. Default: 3. */
  readonly maxReceiveCount?: number;
  /** Messages an invocation gets at most. Default: 10. */
  readonly batchSize?: number;
  /** Whether the queue is consumed at all. Default: true. */
  readonly enabled?: boolean;
  /**
   * Answer for each message instead of for the whole batch. Default: true.
   *
   * This sets the function's `THROUGHLINE_PARTIAL_BATCH` and the mapping's `ReportBatchItemFailures` together:
   * the first without the second would make Lambda delete the messages that failed.
   */
  readonly partialBatch?: boolean;
}

/** An SQS consumer whose records continue the traces of their producers. */
export class TracedSqsFunction extends Construct {
  readonly function: lambda.Function;
  readonly queue: sqs.IQueue;
  /** The queue for messages that failed too often; unset when `queue` was given. */
  readonly deadLetterQueue?: sqs.Queue;

  constructor(scope: Construct, id: string, props: TracedSqsFunctionProps) {
    super(scope, id);
    const partial = props.partialBatch ?? true;
    const timeout = props.timeout ?? defaultTimeout;
    if (props.queue) {
      this.queue = props.queue;
    } else {
      this.deadLetterQueue = new sqs.Queue(this, 'DeadLetterQueue', {
        visibilityTimeout: visibilityTimeout(timeout),
        retentionPeriod: Duration.days(14),
        enforceSSL: true,
      });
      this.queue = new sqs.Queue(this, 'Queue', {
        visibilityTimeout: visibilityTimeout(timeout),
        enforceSSL: true,
        deadLetterQueue: { queue: this.deadLetterQueue, maxReceiveCount: props.maxReceiveCount ?? 3 },
      });
    }
    this.function = smallFunction(this, 'Function', {
      ...props,
      timeout,
      environment: { ...props.environment, ...(partial ? { THROUGHLINE_PARTIAL_BATCH: '1' } : {}) },
    });
    this.function.addEventSource(
      new SqsEventSource(this.queue, {
        batchSize: props.batchSize ?? 10,
        enabled: props.enabled ?? true,
        reportBatchItemFailures: partial,
      }),
    );
  }
}

/** Six times the consumer's timeout, so that no message is handed out again while it is still being worked on. */
export function visibilityTimeout(timeout: Duration): Duration {
  return Duration.seconds(timeout.toSeconds() * 6);
}
