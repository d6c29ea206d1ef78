//! A Lambda sandbox, an SQS endpoint and an OTLP sink on loopback, for tests and the demo.
