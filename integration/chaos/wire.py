"""OTLP logs as bytes: records to send, drawn from a seed, and what came out of them, read without losing a byte.

Why it exists: the oracle compares bytes. Generated classes would drop unknown fields, or write known ones anew, and so
hide the very thing it looks for.
In:  a seed and a number; or the bytes of an ExportLogsServiceRequest.
Out: such bytes; or each record's id and a fingerprint of the record and of all that stands around it.
Promise: the same seed and number give the same bytes; a fingerprint differs if any byte of the record, its scope, its
resource or the request's own unknown fields does, Harbinger's attributes left out.
Deliberately absent: verdicts. What Harbinger adds is taken away here, whatever it says.
"""

import random
import re
import struct
from hashlib import blake2b

OURS = (b"is_anomaly", b"incident_id")
OURS_BEGIN = b"harbinger."
ID = b"chaos.id"
ID_IN_BYTES = re.compile(rb"\n\x08chaos\.id\x12.\n.<(\d+-\d+)>", re.DOTALL)
EVENTS = b"harbinger.incidents"

# Field numbers: ExportLogsServiceRequest.resource_logs; ResourceLogs.scope_logs; ScopeLogs.scope and log_records;
# InstrumentationScope.name; LogRecord.attributes; KeyValue.key and value; AnyValue.string_value.
RESOURCE_LOGS, SCOPE_LOGS, SCOPE, LOG_RECORDS, SCOPE_NAME, ATTRIBUTES, KEY, VALUE, STRING = 1, 2, 1, 2, 1, 6, 1, 2, 1
BYTES = 2  # the wire type


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def fixed64(field, value):
    return varint(field << 3 | 1) + struct.pack("<Q", value)


def fixed32(field, value):
    return varint(field << 3 | 5) + struct.pack("<I", value)


def block(field, value):
    return varint(field << 3 | BYTES) + varint(len(value)) + value


def fields(data):
    """Each field of a message as (number, wire type, whole bytes, payload); numbers' payload is their value."""
    at, end = 0, len(data)
    while at < end:
        start = at
        key, at = _varint(data, at)
        kind = key & 7
        if kind == BYTES:
            length, at = _varint(data, at)
            payload = data[at : at + length]
            if len(payload) != length:
                raise ValueError("a field is longer than its message")
            at += length
        elif kind == 0:
            payload, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            payload = data[at : at + size]
            at += size
        else:
            raise ValueError(f"wire type {kind}")
        yield key >> 3, kind, data[start:at], payload


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def take(data, wanted):
    """The payloads of the message fields with that number, and all other bytes in order."""
    taken, rest = [], []
    for field, kind, whole, payload in fields(data):
        if field == wanted and kind == BYTES:
            taken.append(payload)
        else:
            rest.append(whole)
    return taken, b"".join(rest)


def first(data, wanted):
    return next((payload for field, kind, _, payload in fields(data) if field == wanted and kind == BYTES), b"")


def stripped(record):
    """A record's id, its bytes without Harbinger's attributes, and the values of those, in order."""
    name, kept, ours = None, [], []
    for field, kind, whole, payload in fields(record):
        if field == ATTRIBUTES and kind == BYTES:
            key = first(payload, KEY)
            if key in OURS or key.startswith(OURS_BEGIN):
                ours.append(whole)
                continue
            if key == ID:
                name = first(first(payload, VALUE), STRING)[1:-1].decode()
        kept.append(whole)
    return name, b"".join(kept), b"".join(ours)


def records(request):
    """(id, fingerprint, our attributes as bytes) of each record in order, Harbinger's own events left out."""
    resources, request_rest = take(request, RESOURCE_LOGS)
    for resource in resources:
        scopes, resource_rest = take(resource, SCOPE_LOGS)
        for scope in scopes:
            found, scope_rest = take(scope, LOG_RECORDS)
            if first(first(scope, SCOPE), SCOPE_NAME) == EVENTS:
                continue
            around = blake2b(digest_size=16)
            for part in (request_rest, resource_rest, scope_rest):
                around.update(varint(len(part)) + part)
            for record in found:
                name, bare, ours = stripped(record)
                fingerprint = around.copy()
                fingerprint.update(bare)
                yield name, fingerprint.digest(), ours


# What is sent.

SERVICES = ("orders", "billing", "gateway", "search", "stock", "mail")
NORMAL = (
    "GET /api/orders/{n} 200 {m} ms",
    "user {n} logged in from 10.1.{m}.7",
    "job {n} finished, {m} rows",
    "cache miss for key session:{n}",
    "published message {n} to topic shipments in {m} ms",
    "reloaded {m} rules from /etc/shop/rules.d",
)
BROKEN = (
    "connection to database db-{m} refused: too many clients already",
    "FATAL: could not write block {n}: no space left on device",
    "payment {n} failed: upstream timed out after {m} ms",
)


def attribute(key, value):
    return block(KEY, key) + block(VALUE, value)


def text(value):
    return block(STRING, value.encode())


def named(name):
    """The attribute with a record's id, in brackets so that its end can be found in bytes."""
    return block(ATTRIBUTES, attribute(ID, text(f"<{name}>")))


def unknown(draw):
    """A field that no version of OTLP knows, or none."""
    field = draw.choice((99, 1000, 2_047, 536_870_911))
    kind = draw.randrange(6)
    if kind == 0:
        return number(field, draw.getrandbits(63))
    if kind == 1:
        return fixed64(field, draw.getrandbits(64))
    if kind == 2:
        return fixed32(field, draw.getrandbits(32))
    if kind == 3:
        return block(field, draw.randbytes(draw.randrange(40)))
    return b""


def body(draw, line):
    """An AnyValue of one of its kinds, mostly a string; or nothing at all. Few kinds of text: the model reads each."""
    kind = draw.randrange(20)
    if kind == 0:
        return b""
    if kind == 1:
        return block(5, b"")
    if kind == 2:
        entries = (attribute(b"msg", text(line)), attribute(b"took", number(3, draw.getrandbits(63))))
        return block(5, block(6, b"".join(block(1, entry) for entry in entries)))
    if kind == 3:
        return block(5, block(7, bytes(range(draw.choice((0, 3, 60))))))
    if kind == 4:
        return block(5, text(line + " " + "x\u00e4\u65e5" * draw.choice((1, 400))))
    return block(5, text(line))


def log_record(draw, name, broken):
    """A record with something of everything: absent fields, odd ids, doubled keys, fields out of order."""
    line = draw.choice(BROKEN if broken else NORMAL).format(n=draw.randrange(10**6), m=draw.randrange(250))
    now = 1_760_000_000_000_000_000 + draw.randrange(10**12)
    parts = [
        fixed64(1, now) if draw.random() < 0.9 else b"",
        fixed64(11, now + 1_000) if draw.random() < 0.7 else b"",
        number(2, 17 if broken else 9) if draw.random() < 0.8 else b"",
        block(3, b"ERROR" if broken else b"INFO") if draw.random() < 0.5 else b"",
        body(draw, line),
        named(name),
        number(7, draw.randrange(300)) if draw.random() < 0.1 else b"",
        fixed32(8, draw.getrandbits(8)) if draw.random() < 0.3 else b"",
        # Eight and sixteen bytes are right; others count as absent, and stay.
        block(9, draw.randbytes(draw.choice((16, 16, 16, 5, 0)))) if draw.random() < 0.4 else b"",
        block(10, draw.randbytes(draw.choice((8, 8, 8, 3)))) if draw.random() < 0.4 else b"",
        block(12, b"shop.event") if draw.random() < 0.1 else b"",
        unknown(draw),
    ]
    for n in range(draw.randrange(3)):
        parts.append(block(ATTRIBUTES, attribute(b"k%d" % n, text(f"value {draw.randrange(100)}"))))
    if draw.random() < 0.05:
        # Somebody else's attribute by one of our names: ours takes its place, as README says.
        parts.append(block(ATTRIBUTES, attribute(b"incident_id", text("INC-1"))))
    if draw.random() < 0.2:
        draw.shuffle(parts)
    return b"".join(parts)


def request(seed, index, size, alone=True):
    """The bytes of the request of that number; record K of request N has the id `N-K`. One that is not to stay `alone` has no
    unknown fields of its own: once requests are put together, nobody could tell whose they were."""
    draw = random.Random(f"{seed}/{index}")
    # Faults come in stretches, so that there are incidents.
    broken = 0.5 if index % 40 > 36 else 0.005
    groups, at = [], 0
    while at < size:
        scopes = []
        resource_end = min(size, at + draw.randint(1, size))
        while at < resource_end:
            end = min(resource_end, at + draw.randint(1, size))
            inner = [block(LOG_RECORDS, log_record(draw, f"{index}-{n}", draw.random() < broken)) for n in range(at, end)]
            scope = block(1, b"shop.logger") + block(2, b"1.4.2") + unknown(draw)
            around = [block(SCOPE, scope)] if draw.random() < 0.8 else []
            around += [block(3, b"https://example.org/schema/1.2.0")] if draw.random() < 0.2 else []
            scopes.append(block(SCOPE_LOGS, b"".join(around + inner) + unknown(draw)))
            at = end
        resource = block(1, attribute(b"service.name", text(draw.choice(SERVICES)))) + number(2, 3) + unknown(draw)
        around = block(1, resource) if draw.random() < 0.9 else b""
        groups.append(block(RESOURCE_LOGS, around + b"".join(scopes) + unknown(draw)))
    return b"".join(groups) + (unknown(draw) if alone else b"")


# What peers answer.


def rejected(response):
    """`partial_success.rejected_log_records` of an ExportLogsServiceResponse."""
    partial = first(response, 1)
    return next((value for field, kind, _, value in fields(partial) if field == 1 and kind == 0), 0)


def partial_success(count, message):
    return block(1, number(1, count) + block(2, message.encode()))


def retry_info(seconds, code, message):
    """A google.rpc.Status that asks for a wait."""
    wait = number(1, int(seconds)) + number(2, int(seconds % 1 * 1e9))
    detail = block(1, b"type.googleapis.com/google.rpc.RetryInfo") + block(2, block(1, wait))
    return number(1, code) + block(2, message.encode()) + block(3, detail)


def wait_asked(status):
    """The seconds that a google.rpc.Status asks to wait, or None."""
    for field, kind, _, detail in fields(status):
        if field == 3 and kind == BYTES and first(detail, 1).endswith(b"google.rpc.RetryInfo"):
            wait = {f: value for f, kind, _, value in fields(first(first(detail, 2), 1)) if kind == 0}
            return wait.get(1, 0) + wait.get(2, 0) / 1e9
    return None
