"""The sender: OTLP clients that keep a request until it is answered, and write down what they were told.

Why it exists: only who was told «OK» may hold the agent to it.
In:  a plan; the agent's address.
Out: a `Ledger`: each request's attempts, with what came of them.
Promise: a request is sent again, with the same bytes, until it is acknowledged or refused for good, as the OTLP
specification has it; the wait that `RetryInfo` asks for is kept up to MOST_WAIT_SECONDS, so a run stays short.
Deliberately absent: batching, and any look at the answers but for their status and `partial_success`.
"""

import http.client
import queue
import random
import threading
import time
from dataclasses import dataclass, field

from chaos import wire
from packages import grpc

EXPORT = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
# What a caller waits for an answer. The agent's own deadline is half a second earlier.
TIMEOUT_SECONDS = 3
MOST_WAIT_SECONDS = 0.3
# How often a sender that is held looks whether it still is.
HELD_SECONDS = 0.02

RETRIED = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}


@dataclass
class Attempt:
    begun: float
    ended: float
    status: str
    # Whether the agent said so, or the connection did.
    answered: bool


@dataclass
class Sent:
    attempts: list = field(default_factory=list)
    acknowledged: bool = False
    # Records that were said to be rejected in the acknowledgement.
    told_rejected: int = 0
    refused: str = ""


class Ledger:
    def __init__(self, plan):
        self.plan = plan
        self.sent = [Sent() for _ in plan.sizes]
        self.lock = threading.Lock()
        self.acknowledged_records = self.answers = self.finished = 0

    def note(self, index, attempt, told_rejected=0, final=False):
        sent = self.sent[index]
        sent.attempts.append(attempt)
        with self.lock:
            self.answers += attempt.answered
            if attempt.status == "OK":
                sent.acknowledged, sent.told_rejected = True, told_rejected
                self.acknowledged_records += self.plan.sizes[index]
            elif final:
                sent.refused = attempt.status
            self.finished += attempt.status == "OK" or final

    @property
    def settled_records(self):
        """What the plan's events count by: records that are done with, acknowledged for nearly all."""
        with self.lock:
            refused = sum(size for size, sent in zip(self.plan.sizes, self.sent) if sent.refused)
            return self.acknowledged_records + refused


@dataclass
class Told:
    status: str
    answered: bool = True
    final: bool = False
    wait: float = 0.0
    rejected: int = 0


class GrpcWay:
    """One connection to the agent."""

    def __init__(self, address):
        options = [
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.min_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200),
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.enable_retries", 0),
        ]
        self.channel = grpc.insecure_channel(address, options=options)
        self.call = self.channel.unary_unary(EXPORT)

    def send(self, body):
        try:
            return Told("OK", rejected=wire.rejected(self.call(body, timeout=TIMEOUT_SECONDS)))
        except grpc.RpcError as refusal:
            status, wait = refusal.code().name, None
            trailers = dict(refusal.trailing_metadata() or ())
            if "grpc-status-details-bin" in trailers:
                wait = wire.wait_asked(trailers["grpc-status-details-bin"])
            retried = status in RETRIED or (status == "RESOURCE_EXHAUSTED" and wait is not None)
            # What gRPC says itself, for want of an answer, comes without trailers of a server.
            answered = "next hop" in refusal.details() or bool(trailers)
            return Told(f"{status}: {refusal.details()}", answered, not retried, wait or 0.0)

    def close(self):
        self.channel.close()


class HttpWay:
    """One connection to the agent, OTLP/HTTP with protobuf."""

    def __init__(self, address):
        self.address, self.connection = address, None

    def send(self, body):
        try:
            if self.connection is None:
                self.connection = http.client.HTTPConnection(self.address, timeout=TIMEOUT_SECONDS)
            self.connection.request("POST", "/v1/logs", body, {"Content-Type": "application/x-protobuf"})
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as lost:
            self.close()
            return Told(f"lost: {type(lost).__name__}", answered=False)
        if answer.status == 200:
            return Told("OK", rejected=wire.rejected(content))
        wait = answer.getheader("Retry-After", "0")
        retried = answer.status in (429, 502, 503, 504)
        return Told(f"HTTP {answer.status}", True, not retried, float(wait) if wait.isdigit() else 0.0)

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None


WAYS = {"grpc": GrpcWay, "http": HttpWay}


class Senders:
    """Several connections that take one request after the other."""

    def __init__(self, plan, ledger, protocol, address, connections):
        self.plan, self.ledger, self.protocol, self.address = plan, ledger, protocol, address
        self.waiting = queue.SimpleQueue()
        for index in range(len(plan.sizes)):
            self.waiting.put(index)
        self.stopped = threading.Event()
        self.problem = None
        # No request is begun beyond so many acknowledged records.
        self.hold_at = plan.records
        self.threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(connections)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def done(self):
        if self.problem:
            raise self.problem
        return self.ledger.finished == len(self.plan.sizes)

    def _work(self, number):
        way = WAYS[self.protocol](self.address)
        chance = random.Random(f"wait/{self.plan.seed}/{number}")
        try:
            while not self.stopped.is_set():
                if self.ledger.acknowledged_records >= self.hold_at and self.hold_at < self.plan.records:
                    self.stopped.wait(HELD_SECONDS)
                    continue
                index = self.waiting.get_nowait()
                self._deliver(way, chance, index, wire.request(self.plan.seed, index, self.plan.sizes[index]))
        except queue.Empty:
            pass
        except Exception as problem:  # not lost with the thread: `done` raises it
            self.problem = problem
        finally:
            way.close()

    def _deliver(self, way, chance, index, body):
        wait = 0.02
        while not self.stopped.is_set():
            begun = time.monotonic()
            told = way.send(body)
            attempt = Attempt(begun, time.monotonic(), told.status, told.answered)
            self.ledger.note(index, attempt, told.rejected, told.final)
            if told.status == "OK" or told.final:
                return
            # A client's own back-off.
            wait = min(max(wait * 2, told.wait), MOST_WAIT_SECONDS)
            self.stopped.wait(wait * chance.uniform(0.5, 1))
