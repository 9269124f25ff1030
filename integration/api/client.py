#!/usr/bin/env python3
"""A client of Harbinger's API that knows nothing of it beforehand: what grpcurl is, in a page of Python.

Why it exists: it proves that the API can be used from another language with nothing but its address, and it is an
example to begin from.
In:  an address, and what to do.
Out: JSON, as protobuf maps it.
Promise: no generated stub; messages and methods come from the server's own reflection.
Deliberately absent: any name of ours but on the command line.

    make integration-python                                           # once
    python3 integration/api/client.py 127.0.0.1:4319 services
    python3 integration/api/client.py 127.0.0.1:4319 call grpc.health.v1.Health Check
    python3 integration/api/client.py 127.0.0.1:4319 call harbinger.v1.Incidents ListIncidents '{"page_size": 3}'
    python3 integration/api/client.py 127.0.0.1:4319 call harbinger.v1.Incidents WatchIncidents
"""

import argparse
import json
import sys
from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent.parent / "target" / "integration" / "python"
sys.path.insert(0, str(PACKAGES))

try:
    import grpc
    from google.protobuf import descriptor_pool, json_format, message_factory
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
except ImportError as missing:
    raise SystemExit(f"{missing}: run `make integration-python`, which fills {PACKAGES}") from None

# How long one answer may take; a stream goes on for as long as it is asked to.
ANSWER_SECONDS = 30


class Client:
    """Calls by name, with dictionaries for messages."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address)
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)

    def close(self):
        self.channel.close()

    def services(self):
        """The full names of what the server serves."""
        return sorted(self.database.get_services())

    def methods(self, service):
        return [method.name for method in self.pool.FindServiceByName(service).methods]

    def _prepare(self, service, method, request):
        found = self.pool.FindServiceByName(service).FindMethodByName(method)
        asked, answered = (message_factory.GetMessageClass(kind) for kind in (found.input_type, found.output_type))
        kind = self.channel.unary_stream if found.server_streaming else self.channel.unary_unary
        call = kind(
            f"/{service}/{method}",
            request_serializer=asked.SerializeToString,
            response_deserializer=answered.FromString,
        )
        return call, json_format.ParseDict(request or {}, asked())

    def call(self, service, method, request=None):
        """One answer."""
        call, message = self._prepare(service, method, request)
        return as_dictionary(call(message, timeout=ANSWER_SECONDS))

    def stream(self, service, method, request=None, seconds=None):
        """Answers as they come; ends with an error after so many seconds, if any are given."""
        call, message = self._prepare(service, method, request)
        for answer in call(message, timeout=seconds):
            yield as_dictionary(answer)

    def is_stream(self, service, method):
        return self.pool.FindServiceByName(service).FindMethodByName(method).server_streaming


def as_dictionary(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("address", help="host:port of the agent's harbinger_api")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("services", help="what is served, with its methods")
    call = commands.add_parser("call", help="call a method")
    call.add_argument("service")
    call.add_argument("method")
    call.add_argument("request", nargs="?", default="{}", help="the request as JSON")
    options = parser.parse_args()

    client = Client(options.address)
    try:
        if options.command == "services":
            for service in client.services():
                print(service)
                for method in client.methods(service):
                    print(f"  {method}")
            return
        request = json.loads(options.request)
        if client.is_stream(options.service, options.method):
            answers = client.stream(options.service, options.method, request)
        else:
            answers = [client.call(options.service, options.method, request)]
        for answer in answers:
            print(json.dumps(answer, ensure_ascii=False), flush=True)
    except grpc.RpcError as refusal:
        sys.exit(f"{options.address}: {refusal.code().name}: {refusal.details()}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
