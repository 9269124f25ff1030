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
const { diag, trace, DiagConsoleLogger, DiagLogLevel, ROOT_CONTEXT } = require('@opentelemetry/api');
const { SeverityNumber } = require('@opentelemetry/api-logs');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { LoggerProvider, BatchLogRecordProcessor } = require('@opentelemetry/sdk-logs');

const text = (fallback) => ({ type: 'string', default: fallback });
const { values: options } = parseArgs({
  options: {
    endpoint: text(), protocol: text('grpc'), requests: text('1'), records: text('10'), padding: text('0'),
    parallel: text('1'), timeout: text('10'), given: text(), ca: text(), cert: text(), key: text(), token: text(),
  },
});
const read = (file) => (file ? readFileSync(file) : undefined);
const timeoutMillis = Number(options.timeout) * 1000;
diag.setLogger(new DiagConsoleLogger(), DiagLogLevel.WARN);

function exporter() {
  const authorization = options.token ? { authorization: `Bearer ${options.token}` } : {};
  const scheme = options.ca ? 'https' : 'http';
  if (options.protocol !== 'grpc') {
    const encoding = { 'http/protobuf': 'proto', 'http/json': 'http' }[options.protocol];
    const { OTLPLogExporter } = require(`@opentelemetry/exporter-logs-otlp-${encoding}`);
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

// A provider with an exporter of its own, for so many records in batches of so many.
function provided(count, batch, resource) {
  const processor = new BatchLogRecordProcessor({
    exporter: noting(exporter()),
    maxExportBatchSize: batch,
    maxQueueSize: Math.max(count, 2048),
    scheduledDelayMillis: 60_000,
    exportTimeoutMillis: timeoutMillis + 1_000,
  });
  return new LoggerProvider({ processors: [processor], resource });
}

async function end(provider) {
  for (const step of ['forceFlush', 'shutdown']) {
    try {
      await provider[step]();
    } catch (refused) {
      console.error(String(refused)); // noted batch by batch already
    }
  }
}

async function send(number) {
  const records = Number(options.records);
  const count = Number(options.requests) * records;
  const provider = provided(count, records);
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
  await end(provider);
}

// A value in OTLP JSON, as the SDK takes it.
function value(anyValue) {
  const [[kind, inner] = []] = Object.entries(anyValue);
  if (kind === undefined) return null;
  if (kind === 'intValue' || kind === 'doubleValue') return Number(inner);
  if (kind === 'bytesValue') return new Uint8Array(Buffer.from(inner, 'base64'));
  if (kind === 'arrayValue') return inner.values.map(value);
  return kind === 'kvlistValue' ? mapping(inner.values) : inner;
}

function mapping(pairs) {
  return Object.fromEntries(pairs.map((pair) => [pair.key, value(pair.value)]));
}

// Seconds and nanoseconds: a number of milliseconds would lose the last digits.
function time(nanos) {
  return [Number(BigInt(nanos) / 1_000_000_000n), Number(BigInt(nanos) % 1_000_000_000n)];
}

function log(logger, given) {
  const { traceId, spanId, flags } = given;
  logger.emit({
    timestamp: time(given.timeUnixNano),
    observedTimestamp: time(given.observedTimeUnixNano),
    context: traceId && trace.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags: flags ?? 0 }),
    severityNumber: given.severityNumber,
    severityText: given.severityText,
    body: value(given.body ?? {}),
    attributes: mapping(given.attributes),
    eventName: given.eventName,
  });
}

async function sendGiven() {
  for (const group of JSON.parse(readFileSync(options.given, 'utf8')).resourceLogs) {
    const count = group.scopeLogs.reduce((sum, { logRecords }) => sum + logRecords.length, 0);
    const resource = resourceFromAttributes(mapping(group.resource.attributes), { schemaUrl: group.schemaUrl });
    const provider = provided(count, count, resource);
    for (const { scope, schemaUrl, logRecords } of group.scopeLogs) {
      const logger = provider.getLogger(scope.name, scope.version, { schemaUrl, attributes: mapping(scope.attributes) });
      for (const given of logRecords) log(logger, given);
    }
    await end(provider);
  }
}

if (options.given) await sendGiven();
else await Promise.all(Array.from({ length: Number(options.parallel) }, (_, number) => send(number)));
console.log(JSON.stringify({ exported, failed }));
process.exit(0);
