// Stands in for Lambda's managed Node runtime in the tests: loads a handler file and speaks the Runtime API.
// Usage: bootstrap.mjs FILE; calls the export `handler` of FILE.
import { request } from 'node:http';
import { pathToFileURL } from 'node:url';

const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime`;

const call = (method, path, body) =>
  new Promise((resolve, reject) => {
    const sent = request(api + path, { method, agent: false }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => resolve({ headers: answer.headers, text: Buffer.concat(parts).toString() }));
    });
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });

const told = (error) => ({ errorMessage: `${error?.message}`, errorType: `${error?.name}` });

let handler;
try {
  ({ handler } = await import(pathToFileURL(process.argv[2])));
} catch (error) {
  await call('POST', '/init/error', told(error));
  throw error;
}
for (;;) {
  const { headers, text } = await call('GET', '/invocation/next');
  const awsRequestId = headers['lambda-runtime-aws-request-id'];
  const deadline = Number(headers['lambda-runtime-deadline-ms']);
  const context = { awsRequestId, getRemainingTimeInMillis: () => deadline - Date.now() };
  try {
    const result = await handler(JSON.parse(text), context);
    await call('POST', `/invocation/${awsRequestId}/response`, result);
  } catch (error) {
    await call('POST', `/invocation/${awsRequestId}/error`, told(error));
  }
}
