import { Duration, RemovalPolicy } from 'aws-cdk-lib';
import * as iam from 'aws-cdk-lib/aws-iam';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as logs from 'aws-cdk-lib/aws-logs';
import { Construct } from 'constructs';

import { Throughline } from './throughline.js';

/** What the functions of the example have in common. */
export interface SmallFunctionProps {
  /** The layer and its settings. */
  readonly throughline: Throughline;
  /** The function's code; for Rust a folder with `bootstrap`. */
  readonly code: lambda.Code;
  /** Default: `provided.al2023`. */
  readonly runtime?: lambda.Runtime;
  /** Default: `bootstrap`. */
  readonly handler?: string;
  /** The service's name in the traces. */
  readonly serviceName: string;
  /** Default: 10 seconds. */
  readonly timeout?: Duration;
  /** In MB. Default: 256. */
  readonly memorySize?: number;
  /** Default: two weeks. */
  readonly logRetention?: logs.RetentionDays;
  /** Variables of the function's own. */
  readonly environment?: Record<string, string>;
}

/** The timeout of a function that names none. */
export const defaultTimeout = Duration.seconds(10);

/**
 * A function with the layer, a log group that forgets, and a role of its own.
 *
 * The role is written here because CDK's default one may write to every log group of the account.
 */
export function smallFunction(scope: Construct, id: string, props: SmallFunctionProps): lambda.Function {
  const logGroup = new logs.LogGroup(scope, `${id}Logs`, {
    retention: props.logRetention ?? logs.RetentionDays.TWO_WEEKS,
    removalPolicy: RemovalPolicy.DESTROY,
  });
  const role = new iam.Role(scope, `${id}Role`, { assumedBy: new iam.ServicePrincipal('lambda.amazonaws.com') });
  logGroup.grantWrite(role);
  const created = new lambda.Function(scope, id, {
    role,
    logGroup,
    code: props.code,
    runtime: props.runtime ?? lambda.Runtime.PROVIDED_AL2023,
    handler: props.handler ?? 'bootstrap',
    architecture: props.throughline.architecture,
    timeout: props.timeout ?? defaultTimeout,
    memorySize: props.memorySize ?? 256,
    environment: { OTEL_SERVICE_NAME: props.serviceName, ...props.environment },
  });
  props.throughline.addTo(created);
  return created;
}
