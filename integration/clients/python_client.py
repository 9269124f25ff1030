"""The OpenTelemetry SDK of Python as a program that logs.

In:  where to, how much, and with which certificates and token (the same arguments as node/client.mjs); or, with
     `--given`, a request in OTLP JSON that says what to log.
Out: log records with bodies like `<record 3-14>`, or those of that request, batch by batch as the SDK's processor sends
     them; at the end one line of JSON with the ids of the records that the exporter said were exported, and of those it
     said were not.
Promise: nothing but the SDK speaks to the agent, and nothing is sent again but by the SDK.
"""

import argparse
import base64
import json
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from packages import grpc

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.json.http._log_exporter import OTLPLogExporter as JsonExporter
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context


class Noting(LogRecordExporter):
    """Passes batches on and notes what became of them."""

    def __init__(self, inner, exported, failed):
        self.inner, self.exported, self.failed = inner, exported, failed

    def export(self, batch):
        ids = [record.log_record.attributes["id"] for record in batch]
        result = self.inner.export(batch)
        (self.exported if result is LogRecordExportResult.SUCCESS else self.failed).extend(ids)
        return result

    def shutdown(self):
        self.inner.shutdown()

    def force_flush(self, timeout_millis=30_000):
        return True


def exporter(options):
    headers = {"authorization": f"Bearer {options.token}"} if options.token else None
    if options.protocol != "grpc":
        scheme = "https" if options.ca else "http"
        return {"http/protobuf": HttpExporter, "http/json": JsonExporter}[options.protocol](
            endpoint=f"{scheme}://{options.endpoint}/v1/logs",
            certificate_file=options.ca,
            client_certificate_file=options.cert,
            client_key_file=options.key,
            headers=headers,
            timeout=options.timeout,
        )
    credentials = None
    if options.ca:
        ca, key, cert = (Path(p).read_bytes() if p else None for p in (options.ca, options.key, options.cert))
        credentials = grpc.ssl_channel_credentials(ca, key, cert)
    return GrpcExporter(
        endpoint=options.endpoint,
        insecure=not options.ca,
        credentials=credentials,
        headers=headers,
        timeout=options.timeout,
    )


def provided(options, resource, count, batch, exported, failed):
    """A provider with an exporter of its own, for so many records in batches of so many."""
    provider = LoggerProvider(resource)
    noting = Noting(exporter(options), exported, failed)
    processor = BatchLogRecordProcessor(
        noting, schedule_delay_millis=60_000, max_export_batch_size=batch, max_queue_size=max(count, 2048)
    )
    provider.add_log_record_processor(processor)
    return provider


def send(options, number, exported, failed):
    count = options.requests * options.records
    resource = Resource.create({"service.name": "python-client"})
    provider = provided(options, resource, count, options.records, exported, failed)
    logger = provider.get_logger("client", "1.0")
    for n in range(count):
        name = f"{number}-{n}"
        body = f"<record {name}> " + "x" * options.padding
        logger.emit(LogRecord(body=body, severity_number=SeverityNumber.INFO, severity_text="INFO", attributes={"id": name}))
    provider.force_flush(120_000)
    provider.shutdown()


def value(any_value):
    """A value in OTLP JSON, as the SDK takes it."""
    ((kind, inner),) = any_value.items() or (("empty", None),)
    if kind == "kvlistValue":
        return mapping(inner["values"])
    read = {"intValue": int, "doubleValue": float, "bytesValue": base64.b64decode}
    return [value(one) for one in inner["values"]] if kind == "arrayValue" else read.get(kind, lambda same: same)(inner)


def mapping(pairs):
    return {pair["key"]: value(pair["value"]) for pair in pairs}


def log(logger, given):
    context = None
    if "traceId" in given:
        ids = int(given["traceId"], 16), int(given["spanId"], 16)
        span = SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(given.get("flags", 0)))
        context = set_span_in_context(NonRecordingSpan(span))
    logger.emit(
        LogRecord(
            timestamp=int(given["timeUnixNano"]),
            observed_timestamp=int(given["observedTimeUnixNano"]),
            context=context,
            severity_text=given.get("severityText"),
            severity_number=SeverityNumber(given.get("severityNumber", 0)),
            body=value(given.get("body", {})),
            attributes=mapping(given["attributes"]),
            event_name=given.get("eventName"),
        )
    )


def send_given(options, exported, failed):
    for group in json.loads(options.given.read_text())["resourceLogs"]:
        count = sum(len(scope_logs["logRecords"]) for scope_logs in group["scopeLogs"])
        resource = Resource(mapping(group["resource"]["attributes"]), group["schemaUrl"])
        provider = provided(options, resource, count, count, exported, failed)
        for scope_logs in group["scopeLogs"]:
            scope = scope_logs["scope"]
            attributes = mapping(scope["attributes"])
            logger = provider.get_logger(scope["name"], scope["version"], scope_logs["schemaUrl"], attributes)
            for given in scope_logs["logRecords"]:
                log(logger, given)
        provider.force_flush(120_000)
        provider.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--protocol", choices=("grpc", "http/protobuf", "http/json"), default="grpc")
    parser.add_argument("--given", type=Path, help="what to log, a request in OTLP JSON; without it records are made up")
    parser.add_argument("--requests", type=int, default=1, help="batches of each exporter")
    parser.add_argument("--records", type=int, default=10, help="records of a batch")
    parser.add_argument("--padding", type=int, default=0, help="further bytes in each body")
    parser.add_argument("--parallel", type=int, default=1, help="exporters at the same time")
    parser.add_argument("--timeout", type=float, default=10, help="seconds, as the exporter's own setting")
    for name in ("ca", "cert", "key", "token"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    exported, failed = [], []
    if options.given:
        work = [(send_given, (options, exported, failed))]
    else:
        work = [(send, (options, n, exported, failed)) for n in range(options.parallel)]
    threads = [threading.Thread(target=target, args=arguments) for target, arguments in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"exported": exported, "failed": failed}), flush=True)


if __name__ == "__main__":
    main()
