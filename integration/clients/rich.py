"""Records that have something of everything a log record can say, and what it means that they read back equal.

In:  the name of a client, which SDK it is, and a time to begin at; later on what a destination got.
Out: the records as one request in OTLP JSON, which each client is given to log; of any request, each record with its
     resource and scope in a form in which two are equal only if every field is, in type and value; and what Loki makes of it.
Promise: the records are the same at each call, but for the client's name and the time they begin at (Loki takes nothing old).
Deliberately absent: what an SDK has no way to say (`LACKS`); text that is not UTF-8, unknown fields, doubled keys and
the like, which no SDK sends: those are chaos/wire.py's and the property tests'.

Attributes are a set in OTLP, and so are maps: their order is not compared (SDKs keep them in hash maps).
"""

import base64
import json
import re

from packages import PACKAGES  # noqa: F401  (makes the next lines find what is installed there)

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

# Harbinger's attributes on records, as README has them.
OURS = {
    "is_anomaly": "boolValue",
    "incident_id": "stringValue",
    "harbinger.verdict": "stringValue",
    "harbinger.anomaly.score": "doubleValue",
    "harbinger.anomaly.p_value": "doubleValue",
    "harbinger.anomaly.reason": "stringValue",
    "harbinger.template": "stringValue",
    "harbinger.model.version": "stringValue",
}
EVENTS = "harbinger.incidents"

# What an SDK, or one of its exporters, has no way to say. Anything else it has to.
LACKS = {
    "node": {"64 bits", "whole double"},  # a number is a double; one without a fraction leaves as an integer
    "rust": {"empty value", "not finite"},  # no AnyValue without a value; the client's reader of OTLP JSON knows no NaN
    "node http/json": {"not finite"},  # leave as null, by JSON.stringify
}

UNICODE = "Grüße, 日本語, עברית, 👩‍👩‍👧, e\u0301, \u202eRTL, \ufeff, \U0010ffff"
STRANGE = "tab\t quote\" back\\slash </script> line\n\r \u2028 nul\0 del\x7f"
TRACE, SPAN = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
MANY = {f"k{n:03}": n for n in range(100)}
NESTED = {"a": {"b": [{"c": [1, "two", True, b"\0\xff"]}, []], "empty": {}}, "ünï.cödé": "v", "text": ""}

# Of each value: what it is called, the value as Python has it, and what an SDK needs to say it.
VALUES = (
    ("text", "plain", None), ("empty-text", "", None), ("unicode", UNICODE, None), ("strange", STRANGE, None),
    ("long", "0123456789abcdef" * 1000, None), ("true", True, None), ("false", False, None), ("zero", 0, None),
    ("negative", -7, None), ("53-bits", 2**53 - 1, None), ("most", 2**63 - 1, "64 bits"), ("least", -(2**63), "64 bits"),
    ("fraction", 0.1, None), ("tiny", 5e-324, None), ("huge", 1.7976931348623157e308, "whole double"),
    ("whole", 3.0, "whole double"), ("minus-zero", -0.0, "whole double"), ("nan", float("nan"), "not finite"),
    ("infinite", float("-inf"), "not finite"), ("no-bytes", b"", None), ("bytes", bytes(range(256)), None),
    ("no-values", [], None), ("texts", ["a", "", UNICODE], None), ("mixed", [1, "two", 0.5, True, b"\0", [[]], {"k": 1}], None),
    ("nulls", [None, 1], "empty value"), ("no-map", {}, None), ("map", NESTED, None), ("null", None, "empty value"),
)

RESOURCES = (
    (
        {"service.namespace": "rich", "host.name": "höst-1", "process.pid": 4711, "cpu.share": 0.25, "spot": True,
         "host.ip": ["10.0.0.7", "fe80::1"], "ports": [80, 443], "empty": ""},
        "https://opentelemetry.io/schemas/1.37.0",
        (
            ("shop.checkout", "1.4.2", "https://opentelemetry.io/schemas/1.36.0", {"scope.kind": "library", "n": 3, "on": False}),
            ("shop.payment", "2.0.0-rc.1", "", {}),
        ),
    ),
    ({"service.namespace": "rich", "second": "yes"}, "", (("shop.checkout", "1.4.2", "", {}),)),
)


def any_value(value):
    """A value of Python's in OTLP JSON."""
    match value:
        case None:
            return {}
        case bool():
            return {"boolValue": value}
        case str():
            return {"stringValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value if value - value == 0 else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]}
        case bytes():
            return {"bytesValue": base64.b64encode(value).decode()}
        case list():
            return {"arrayValue": {"values": [any_value(one) for one in value]}}
    return {"kvlistValue": {"values": pairs(value)}}


def pairs(attributes):
    return [{"key": key, "value": any_value(value)} for key, value in attributes.items()]


def _records():
    """Of each record: its id, what an SDK needs to say it, and what it has beside an id and the two times."""
    for name, value, need in VALUES:
        yield f"body-{name}", need, {"body": any_value(value)}
        yield f"attribute-{name}", need, {"body": any_value("a value of each type"), "attributes": pairs({"the.value": value})}
    for number in range(25):
        yield f"severity-{number}", None, {"severityNumber": number, "body": any_value("a severity of each number")}
    for text in ("FATAL", "warn", "Schwerwiegend ☠"):
        yield f"severity-{text}", None, {"severityText": text, "body": any_value("severities by other names")}
    said = {"severityNumber": 9, "severityText": "INFO", "body": any_value("order 17 was shipped")}
    yield "no-body", None, {}
    yield "no-time", None, {"timeUnixNano": "0", **said}
    yield "event", None, {"eventName": "shop.order.shipped", **said}
    yield "span", None, {"traceId": TRACE, "spanId": SPAN, "flags": 1, **said}
    yield "span-not-sampled", None, {"traceId": TRACE, "spanId": SPAN, **said}
    yield "many-attributes", None, {"attributes": pairs(MANY), **said}
    yield "odd-keys", None, {"attributes": pairs({"ключ.key": 1, "with space": 2, "1st": 3, "UPPER.case": 4}), **said}
    # Somebody else's by our names: Harbinger's take their place, as README says.
    yield "our-names", None, {"attributes": pairs({"is_anomaly": "maybe", "incident_id": "INC-1", "mine": 1}), **said}
    broken = any_value("could not write block 17: no space left on device")
    for n in range(4):
        yield f"broken-{n}", None, {"severityNumber": 17, "severityText": "ERROR", "body": broken}


def request(client, sdk, protocol, begin):
    """What that client is to log, as OTLP JSON; `begin` in nanoseconds."""
    lacks = LACKS.get(sdk, set()) | LACKS.get(f"{sdk} {protocol}", set())
    cases = [(name, fields) for name, need, fields in _records() if need not in lacks]
    places = [(r, s) for r, (_, _, scopes) in enumerate(RESOURCES) for s in range(len(scopes))]
    records = {place: [] for place in places}
    for n, (name, fields) in enumerate(cases):
        # No two at one time, all digits in use; observed later than it happened.
        at = begin + n * 1_000_007
        times = {"timeUnixNano": str(at), "observedTimeUnixNano": str(at + 123_456_789)}
        attributes = pairs({"id": name}) + fields.get("attributes", [])
        records[places[n % len(places)]].append({**times, **fields, "attributes": attributes})
    return {
        "resourceLogs": [
            {
                "resource": {"attributes": pairs({"service.name": client, **attributes})},
                "schemaUrl": schema,
                "scopeLogs": [
                    {
                        "scope": {"name": name, "version": version, "attributes": pairs(scope_attributes)},
                        "schemaUrl": scope_schema,
                        "logRecords": records[r, s],
                    }
                    for s, (name, version, scope_schema, scope_attributes) in enumerate(scopes)
                ],
            }
            for r, (attributes, schema, scopes) in enumerate(RESOURCES)
        ]
    }


def from_bytes(body):
    """A request's bytes as OTLP JSON, which writes ids in hex."""
    message = MessageToDict(ExportLogsServiceRequest.FromString(body), use_integers_for_enums=True)
    for resource in message.get("resourceLogs", ()):
        for scope in resource.get("scopeLogs", ()):
            for record in scope.get("logRecords", ()):
                for field in record.keys() & {"traceId", "spanId"}:
                    record[field] = base64.b64decode(record[field]).hex()
    return message


def plain(value):
    """An AnyValue of OTLP JSON, as what equals only the same value of the same type."""
    ((kind, inner),) = value.items() or (("empty", None),)
    if kind == "intValue":
        return kind, int(inner)
    if kind == "doubleValue":
        return kind, repr(float(inner))
    if kind == "bytesValue":
        return kind, base64.b64decode(inner)
    if kind == "arrayValue":
        return kind, [plain(one) for one in inner.get("values", ())]
    if kind == "kvlistValue":
        return kind, mapping(inner.get("values", ()))
    return kind, inner


def mapping(attributes):
    found = {pair["key"]: plain(pair.get("value", {})) for pair in attributes}
    if len(found) != len(attributes):
        raise AssertionError(f"a key is there twice: {[pair['key'] for pair in attributes]}")
    return found


NUMBERS = ("timeUnixNano", "observedTimeUnixNano", "severityNumber", "flags", "droppedAttributesCount")
TEXTS = ("severityText", "eventName", "traceId", "spanId")


def flat(request_json):
    """Each record of a request, Harbinger's events left out, with what is around it; nothing is left out silently."""
    for resource_logs in request_json.get("resourceLogs", ()):
        around = {"resource.schema_url": resource_logs.pop("schemaUrl", "")}
        resource = resource_logs.pop("resource", {})
        around["resource"] = mapping(resource.pop("attributes", []))
        for scope_logs in resource_logs.pop("scopeLogs", ()):
            scope = scope_logs.pop("scope", {})
            name = scope.pop("name", "")
            records = scope_logs.pop("logRecords", ())
            if name == EVENTS:
                continue
            inside = {
                **around,
                "scope.name": name,
                "scope.version": scope.pop("version", ""),
                "scope": mapping(scope.pop("attributes", [])),
                "scope.schema_url": scope_logs.pop("schemaUrl", ""),
            }
            for record in records:
                one = {**inside, "attributes": mapping(record.pop("attributes", [])), "body": plain(record.pop("body", {}))}
                one |= {name: int(record.pop(name, 0)) for name in NUMBERS}
                one |= {name: record.pop(name, "") for name in TEXTS}
                yield one
                _nothing_left(record)
            _nothing_left(scope), _nothing_left(scope_logs)
        _nothing_left(resource), _nothing_left(resource_logs)


def _nothing_left(message):
    left = {key: value for key, value in message.items() if value not in (0, "0", "", [])}
    if left:
        raise AssertionError(f"fields that nobody sent: {json.dumps(left)}")


def name_of(record):
    """Whose record it is, and which."""
    return record["resource"]["service.name"][1], record["attributes"]["id"][1]


def without_ours(record):
    """A record without Harbinger's attributes, and those."""
    ours = {key: value for key, value in record["attributes"].items() if key in OURS}
    theirs = {key: value for key, value in record["attributes"].items() if key not in OURS}
    return {**record, "attributes": theirs}, ours


def in_loki(record, index_labels):
    """What a Loki with these index labels has of a record: time, body, labels, and metadata by name; values as in `plain`.

    Loki has no place for event names, schema URLs and whatever is empty.
    """
    labels, metadata = {}, {}
    for name, value in _apart(record["resource"]):
        (labels if name in index_labels else metadata)[name] = value
    metadata.update(_apart(record["attributes"]))
    metadata.update(_apart(record["scope"]))
    at = record["timeUnixNano"]
    fields = {
        "scope_name": record["scope.name"], "scope_version": record["scope.version"],
        "severity_number": record["severityNumber"], "severity_text": record["severityText"], "flags": record["flags"],
        "trace_id": record["traceId"], "span_id": record["spanId"],
        "observed_timestamp": record["observedTimeUnixNano"] if at else 0,
    }
    metadata.update((name, ("stringValue", str(value))) for name, value in fields.items() if value)
    return at or record["observedTimeUnixNano"], record["body"], labels, metadata


def _apart(attributes, prefix=""):
    """Attributes with maps taken apart, by names that Loki allows."""
    for key, value in attributes.items():
        name = re.sub("[^A-Za-z0-9]+", "_", prefix + key)
        name = f"key_{name}" if name[0].isdigit() else name
        if value[0] == "kvlistValue":
            yield from _apart(value[1], f"{name}_")
        elif value[1] not in ("", b"", None):
            yield name, value


def written_by_loki(value, text):
    """Whether that is what Loki writes for a value: numbers and JSON by what they mean, whatever their digits and blanks."""
    kind, inner = value
    if kind == "doubleValue":
        return repr(float(text)) == inner
    if kind in ("arrayValue", "kvlistValue"):
        return json.loads(text) == _raw(value)
    if kind == "boolValue":
        return text == str(inner).lower()
    return text == (base64.b64encode(inner).decode() if kind == "bytesValue" else str("" if inner is None else inner))


def _raw(value):
    kind, inner = value
    match kind:
        case "arrayValue":
            return [_raw(one) for one in inner]
        case "kvlistValue":
            return {key: _raw(one) for key, one in inner.items()}
        case "bytesValue":
            return base64.b64encode(inner).decode()
        case "doubleValue":
            return float(inner)
    return inner
