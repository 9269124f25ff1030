"""The OpenTelemetry SDK of Python as a program that logs.

In:  where to, how much, and with which certificates and token (the same arguments as node/client.mjs).
Out: log records with bodies like `<record 3-14>`, batch by batch as the SDK's processor sends them; at the end one line
     of JSON with the ids of the records that the exporter said were exported, and of those it said were not.
Promise: nothing but the SDK speaks to the agent, and nothing is sent again but by the SDK.
"""

import argparse
import json
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from packages import grpc

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource


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
    if options.protocol == "http":
        scheme = "https" if options.ca else "http"
        return HttpExporter(
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


def send(options, number, exported, failed):
    provider = LoggerProvider(Resource.create({"service.name": "python-client"}))
    noting = Noting(exporter(options), exported, failed)
    count = options.requests * options.records
    processor = BatchLogRecordProcessor(
        noting, schedule_delay_millis=60_000, max_export_batch_size=options.records, max_queue_size=max(count, 2048)
    )
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("client", "1.0")
    for n in range(count):
        name = f"{number}-{n}"
        body = f"<record {name}> " + "x" * options.padding
        logger.emit(LogRecord(body=body, severity_number=SeverityNumber.INFO, severity_text="INFO", attributes={"id": name}))
    provider.force_flush(120_000)
    provider.shutdown()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--protocol", choices=("grpc", "http"), default="grpc")
    parser.add_argument("--requests", type=int, default=1, help="batches of each exporter")
    parser.add_argument("--records", type=int, default=10, help="records of a batch")
    parser.add_argument("--padding", type=int, default=0, help="further bytes in each body")
    parser.add_argument("--parallel", type=int, default=1, help="exporters at the same time")
    parser.add_argument("--timeout", type=float, default=10, help="seconds, as the exporter's own setting")
    for name in ("ca", "cert", "key", "token"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    exported, failed = [], []
    threads = [threading.Thread(target=send, args=(options, n, exported, failed)) for n in range(options.parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"exported": exported, "failed": failed}), flush=True)


if __name__ == "__main__":
    main()
