// Starts local-aws-sqs on a free loopback port, says which, and ends with its standard input.
import { createServer } from "node:net";
import { createSqsServer } from "local-aws-sqs";

const probe = createServer();
await new Promise((listening) => probe.listen(0, "127.0.0.1", listening));
const { port } = probe.address();
await new Promise((closed) => probe.close(closed));
// Queue URLs hold the port, so the server must be told it.
await createSqsServer({ port, hostname: "127.0.0.1", emulateQueueCreationLifecycle: false });
console.log(port);
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
