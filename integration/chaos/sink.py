"""The destination: a process that takes OTLP logs by gRPC and by HTTP, fails as it is told to, and writes down all it stores.

Why it exists: no real destination can be told when to cut a connection, and which records to claim it has rejected.
In:  requests; on standard input one JSON object a line, like {"mode": "hanging"}, and end of file to end.
Out: a journal of what it did, in the order it did it; on standard output a line of JSON for each line of input, once it
     is in force, the first with the two ports.
Promise: what is stored is in the journal before anything is answered, with what it intends to answer; both servers stand
behind gates of ours, so that «nobody listens» and «the connection is cut» are what they are to a client.
Deliberately absent: any look into requests, but for the ids it rejects.

    python3 -m chaos.sink JOURNAL [--only-ids] [--slow SECONDS] [--places N]
"""

import argparse
import asyncio
import gzip
import json
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

if __name__ == "__main__":
    sys.path.insert(0, __file__.rsplit("/", 2)[0])

from chaos import schedule, wire
from packages import grpc

# Not 127.0.0.1: a client that keeps dialling a port there that nobody listens on is given, sooner or later, this very
# port as its own, and connects to itself.
HOST = "127.0.0.2"
EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
# The longest a call hangs, if the mode does not end before. Callers have given up by then.
HANG_SECONDS = 30
WAIT_ASKED_SECONDS = 0.2
# Calls under way at the same time; a mode that hangs needs them.
CALLS = 256
# Requests refused for good in one outage: each is one that a sender without a queue behind it has to give up.
MOST_REFUSALS = 8


class Journal:
    """Entries of a JSON head and, for what was stored, a body; each written in one piece."""

    def __init__(self, path):
        self.file = open(path, "ab", buffering=0)
        self.lock = threading.Lock()

    def write(self, head, body=b""):
        text = json.dumps({"time": time.monotonic(), **head}).encode()
        with self.lock:
            self.file.write(struct.pack("<II", len(text), len(body)) + text + body)


class Entries:
    """What a journal holds, read on from where it was left."""

    def __init__(self, path):
        self.path, self.offset = path, 0

    def new(self):
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()
        at = 0
        while at + 8 <= len(data):
            head_length, body_length = struct.unpack_from("<II", data, at)
            end = at + 8 + head_length + body_length
            if end > len(data):
                break
            yield json.loads(data[at + 8 : at + 8 + head_length]), data[at + 8 + head_length : end]
            at = end
        self.offset += at


class Gate:
    """A port of its own that passes bytes on to a server, until it is told not to."""

    def __init__(self, behind, host="127.0.0.1"):
        self.behind, self.host, self.server, self.port = behind, host, None, 0
        self.writers = set()

    async def open(self):
        if self.server is None:
            self.server = await asyncio.start_server(self._pass, HOST, self.port, reuse_address=True)
            self.port = self.server.sockets[0].getsockname()[1]

    async def close(self):
        if self.server is not None:
            self.server.close()
            self.server = None
        await self.cut()

    async def cut(self):
        """Cuts every connection: what is on its way is lost."""
        for writer in list(self.writers):
            writer.transport.abort()

    async def _pass(self, reader, writer):
        try:
            backend_reader, backend_writer = await asyncio.open_connection(self.host, self.behind)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, backend_writer}
        self.writers |= both
        try:
            await asyncio.gather(_pump(reader, backend_writer), _pump(backend_reader, writer))
        finally:
            self.writers -= both


async def _pump(reader, writer):
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.transport.abort()


class Answer:
    """What a server should say: a response, or a refusal, or nothing at all."""

    def __init__(self, response=b"", code=0, message="", status=b"", silent=False):
        self.response, self.code, self.message, self.status, self.silent = response, code, message, status, silent


UNAVAILABLE, RESOURCE_EXHAUSTED = 14, 8

# What a request holds that the destination will not have as long as it is «choosy»; no mode of a schedule's.
CHOOSY, DISLIKED = "choosy", b"<disliked>"


class Destination:
    def __init__(self, journal, only_ids, slow, places, cut):
        self.journal, self.only_ids, self.slow, self.cut = journal, only_ids, slow, cut
        self.places = threading.Semaphore(places)
        self.mode = schedule.WELL
        self.refusals_left = 0
        self.changed = threading.Condition()

    def turn(self, mode):
        with self.changed:
            self.mode, self.refusals_left = mode, MOST_REFUSALS
            self.changed.notify_all()

    def while_mode(self, mode, still_there):
        """Waits as long as the mode lasts and the caller is there."""
        until = time.monotonic() + HANG_SECONDS
        with self.changed:
            while self.mode == mode and still_there() and time.monotonic() < until:
                self.changed.wait(0.1)

    def store(self, body, mode, says_so, rejected=(), seconds_left=None):
        head = {"stored": mode, "said": says_so, "rejected": rejected, "seconds_left": seconds_left}
        if self.only_ids:
            head["ids"] = [found.decode() for found in wire.ID_IN_BYTES.findall(body)]
            body = b""
        self.journal.write(head, body)

    def take(self, body, still_there, seconds_left=None):
        """Deals with one request in the mode of the moment."""
        mode = self.mode
        if mode == CHOOSY and DISLIKED in body:
            self.journal.write({"turned_away": mode})
            return Answer(code=UNAVAILABLE, message="chaos: not this one")
        if mode in ("unavailable", "throttling", "exhausted", "hanging"):
            self.journal.write({"turned_away": mode})
        if self.slow:
            if not self.places.acquire(blocking=False):
                return Answer(code=UNAVAILABLE, message="chaos: busy")
            time.sleep(self.slow)  # what makes this destination slow, not a wait for anything
            self.places.release()
        if mode == "unavailable":
            return Answer(code=UNAVAILABLE, message="chaos: unavailable")
        if mode == "throttling":
            status = wire.retry_info(WAIT_ASKED_SECONDS, RESOURCE_EXHAUSTED, "chaos: later")
            return Answer(code=RESOURCE_EXHAUSTED, message="chaos: later", status=status)
        if mode == "exhausted":
            with self.changed:
                self.refusals_left -= 1
                if self.refusals_left >= 0:
                    return Answer(code=RESOURCE_EXHAUSTED, message="chaos: never")
            return Answer(code=UNAVAILABLE, message="chaos: unavailable")
        if mode in ("hanging", "absent"):
            self.while_mode(mode, still_there)
            return Answer(silent=True)
        if mode in ("mute", "cutting"):
            self.store(body, mode, False)
            if mode == "cutting":
                self.cut()
            self.while_mode(mode, still_there)
            return Answer(silent=True)
        if mode == "lying":
            ids = [found.decode() for found in wire.ID_IN_BYTES.findall(body)][::7][:3]
            self.store(body, mode, True, ids, seconds_left)
            return Answer(wire.partial_success(len(ids), "chaos: too ugly"))
        self.store(body, mode, still_there(), (), seconds_left)
        return Answer()


def serve_grpc(destination):
    """An OTLP gRPC server on a port of its own; no message is decoded."""

    def export(body, context):
        answer = destination.take(body, context.is_active, context.time_remaining())
        if answer.silent:
            context.abort(grpc.StatusCode.UNAVAILABLE, "chaos: the call hung until now")
        if answer.code:
            if answer.status:
                context.set_trailing_metadata((("grpc-status-details-bin", answer.status),))
            code = next(code for code in grpc.StatusCode if code.value[0] == answer.code)
            context.abort(code, answer.message)
        return answer.response

    class Handler(grpc.GenericRpcHandler):
        def service(self, call):
            return grpc.unary_unary_rpc_method_handler(export) if call.method == EXPORT else None

    server = grpc.server(
        ThreadPoolExecutor(CALLS),
        handlers=[Handler()],
        options=[("grpc.max_receive_message_length", -1), ("grpc.http2.min_ping_interval_without_data_ms", 1000)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port  # a server that nobody holds ends


def serve_http(destination):
    """An OTLP/HTTP server on a port of its own, protobuf only."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer = destination.take(body, lambda: True)
            if answer.silent:
                self.close_connection = True
                return
            status = 200 if not answer.code else 503 if answer.code == UNAVAILABLE else 429 if answer.status else 400
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer.response)))
            self.end_headers()
            self.wfile.write(answer.response)

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = socket.SOMAXCONN

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("journal")
    parser.add_argument("--only-ids", action="store_true", help="write the ids of what is stored, not the bytes")
    parser.add_argument("--slow", type=float, default=0, help="seconds that each request takes")
    parser.add_argument("--places", type=int, default=256, help="requests that it is slow with at the same time; more are refused")
    options = parser.parse_args()

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def at_the_gates(what):
        for gate in gates:
            asyncio.run_coroutine_threadsafe(getattr(gate, what)(), loop).result()

    journal = Journal(options.journal)

    def cut():
        # Written first: a copy that comes because of it must not seem older than its reason.
        journal.write({"cut": True})
        at_the_gates("cut")

    destination = Destination(journal, options.only_ids, options.slow, options.places, cut)
    _held, grpc_port = serve_grpc(destination)
    gates = [Gate(grpc_port), Gate(serve_http(destination))]
    at_the_gates("open")
    print(json.dumps({"grpc": gates[0].port, "http": gates[1].port}), flush=True)

    for line in sys.stdin:
        mode = json.loads(line)["mode"]
        if mode == "absent":
            journal.write({"cut": True})
            at_the_gates("close")
        destination.turn(mode)
        if mode != "absent":
            at_the_gates("open")
        print(json.dumps({"mode": mode}), flush=True)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    import os

    os._exit(0)  # whatever still hangs in a call
