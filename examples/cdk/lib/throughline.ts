import { Stack } from 'aws-cdk-lib';
import * as lambda from 'aws-cdk-lib/aws-lambda';
import * as secretsmanager from 'aws-cdk-lib/aws-secretsmanager';
import { Construct } from 'constructs';

/** Where the traces go, and how. */
export interface ThroughlineProps {
  /** The folder that holds `extensions/throughline-extension`: `target/layer/<architecture>` of `cargo xtask package`. */
  readonly layerPath: string;
  /** The processor of the functions. Default: x86_64. */
  readonly architecture?: lambda.Architecture;
  /** The OTLP endpoint upstream, such as `https://collector.example.com:4318`. */
  readonly endpoint: string;
  /** Default: `http/protobuf`. */
  readonly protocol?: 'http/protobuf' | 'grpc';
  /** `end` flushes at the end of every invocation, `adaptive` beside the next one when they come close together. Default: `end`. */
  readonly flush?: 'end' | 'adaptive';
  /** The least important log line of the extension. Default: `info`. */
  readonly logLevel?: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'off';
  /** A secret that holds the header's value as JSON under the header's name. Default: no header. */
  readonly headersSecret?: secretsmanager.ISecret;
  /** The header that is sent with the secret's value. Default: `authorization`. */
  readonly headerName?: string;
}

/** The extension as a layer, and what a function needs to use it. One per stack is enough. */
export class Throughline extends Construct {
  readonly architecture: lambda.Architecture;
  readonly layer: lambda.LayerVersion;

  constructor(
    scope: Construct,
    id: string,
    private readonly props: ThroughlineProps,
  ) {
    super(scope, id);
    this.architecture = props.architecture ?? lambda.Architecture.X86_64;
    this.layer = new lambda.LayerVersion(this, 'Layer', {
      layerVersionName: `${Stack.of(this).stackName}-throughline-${this.architecture.name}`,
      description: 'The Throughline extension',
      code: lambda.Code.fromAsset(props.layerPath),
      compatibleArchitectures: [this.architecture],
    });
  }

  /** Adds the layer, its variables and the right to read the header's secret to any function, in any language. */
  addTo(target: lambda.Function): void {
    const { endpoint, protocol, flush, logLevel, headersSecret, headerName = 'authorization' } = this.props;
    target.addLayers(this.layer);
    target.addEnvironment('THROUGHLINE_ENDPOINT', endpoint);
    target.addEnvironment('THROUGHLINE_PROTOCOL', protocol ?? 'http/protobuf');
    target.addEnvironment('THROUGHLINE_FLUSH', flush ?? 'end');
    target.addEnvironment('THROUGHLINE_LOG_LEVEL', logLevel ?? 'info');
    if (headersSecret) {
      // The extension reads the secret at run time: its value is in no template and in no environment.
      target.addEnvironment('THROUGHLINE_HEADERS', `${headerName}=${headersSecret.secretArn}#${headerName}`);
      headersSecret.grantRead(target);
    }
  }
}
