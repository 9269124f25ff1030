// The OpenTelemetry SDK of Node as a program that logs: the same arguments and the same answer as ../python_client.py.
//
// `make integration-node` installs what it needs beside a copy of package.json in target/integration/node.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
const require = createRequire(path.join(root, 'target/integration/node/package.json'));
const grpc = require('@grpc/grpc-js');
const { diag, DiagConsoleLogger, DiagLogLevel } = require('@opentelemetry/api');
const { SeverityNumber } = require('@opentelemetry/api-logs');
const { LoggerProvider, BatchLogRecordProcessor } = require('@opentelemetry/sdk-logs');

const text = (fallback) => ({ type: 'string', default: fallback });
const { values: options } = parseArgs({
  options: {
    endpoint: text(), protocol: text('grpc'), requests: text('1'), records: text('10'), padding: text('0'),
    parallel: text('1'), timeout: text('10'), ca: text(), cert: text(), key: text(), token: text(),
  },
});
const read = (file) => (file ? readFileSync(file) : undefined);
const timeoutMillis = Number(options.timeout) * 1000;
diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);

function exporter() {
  const authorization = options.token ? { authorization: `Bearer ${options.token}` } : {};
  const scheme = options.ca ? 'https' : 'http';
  if (options.protocol === 'http') {
    const { OTLPLogExporter } = require('@opentelemetry/exporter-logs-otlp-proto');
    return new OTLPLogExporter({
      url: `${scheme}://${options.endpoint}/v1/logs`,
      headers: authorization,
      timeoutMillis,
      httpAgentOptions: { ca: read(options.ca), cert: read(options.cert), key: read(options.key), keepAlive: true },
    });
  }
  const { OTLPLogExporter } = require('@opentelemetry/exporter-logs-otlp-grpc');
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(authorization)) metadata.set(name, value);
  const credentials = options.ca
    ? grpc.credentials.createSsl(read(options.ca), read(options.key) ?? null, read(options.cert) ?? null)
    : grpc.credentials.createInsecure();
  return new OTLPLogExporter({ url: `${scheme}://${options.endpoint}`, credentials, metadata, timeoutMillis });
}

const exported = [];
const failed = [];

// Passes batches on and notes what became of them.
function noting(inner) {
  return {
    export(batch, done) {
      const ids = batch.map((record) => record.attributes.id);
      inner.export(batch, (result) => {
        (result.code === 0 ? exported : failed).push(...ids);
        if (result.code !== 0) console.error(`not exported: ${result.error}`);
        done(result);
      });
    },
    forceFlush: () => inner.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => inner.shutdown(),
  };
}

async function send(number) {
  const records = Number(options.records);
  const count = Number(options.requests) * records;
  const inner = noting(exporter());
  const processor = new BatchLogRecordProcessor({
    exporter: inner,
    maxExportBatchSize: records,
    maxQueueSize: Math.max(count, 2048),
    scheduledDelayMillis: 60_000,
    exportTimeoutMillis: timeoutMillis + 1_000,
  });
  const provider = new LoggerProvider({ processors: [processor] });
  const logger = provider.getLogger('client', '1.0');
  for (let n = 0; n < count; n += 1) {
    const id = `${number}-${n}`;
    logger.emit({
      body: `<record ${id}> ${'x'.repeat(Number(options.padding))}`,
      severityNumber: SeverityNumber.INFO,
      severityText: 'INFO',
      attributes: { id },
    });
  }
  try {
    await provider.forceFlush();
  } catch (refused) {
    console.error(String(refused)); // noted batch by batch already
  }
  try {
    await provider.shutdown();
  } catch (refused) {
    console.error(String(refused));
  }
}

await Promise.all(Array.from({ length: Number(options.parallel) }, (_, number) => send(number)));
console.log(JSON.stringify({ exported, failed }));
process.exit(0);
