"""What GEXF 1.3 demands of a file, as far as ours go: a reader that refuses what the schema would refuse.

The schema itself (gexf.xsd and gexf.rng of the format's own repository) is in no package of a registry, and is not ours to copy:
these are its rules in our words, written after reading it. Elements that we do not write (hierarchies, parents, colours and places) are
refused here and allowed there. Beyond the schema: what refers to something finds it, values are of their declared type, ids are
given once, nothing ends before it starts. Standard library only.
"""

import re
import xml.etree.ElementTree as ElementTree

NAMESPACE = "{http://gexf.net/1.3}"

TEXT = re.compile(r".*", re.DOTALL)
DATE = re.compile(r"\d{4}-\d\d-\d\d(Z|[+-]\d\d:\d\d)?")
COUNT = re.compile(r"\d+")
DOUBLE = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+-]?INF|NaN")
# integer, double, date or dateTime; ours are numbers.
TIME = DOUBLE

LISTS = ("string", "boolean", "integer", "long", "float", "double", "byte", "short", "bigdecimal", "biginteger", "char")
TYPES = {"integer", "long", "double", "float", "boolean", "bigdecimal", "biginteger", "byte", "char", "short", "string", "anyURI",
         *(f"list{kind}" for kind in LISTS)}
SPAN = {"start": TIME, "end": TIME, "timestamp": TIME}
LONG_SPAN = SPAN | {"intervals": TEXT, "timestamps": TEXT}

# By element: attributes that must be there, those that may, and children in order: name, how many at least, at most.
MANY = float("inf")
ELEMENTS = {
    "gexf": ({"version": {"1.3"}}, {"variant": TEXT}, [("meta", 0, 1), ("graph", 1, 1)]),
    "meta": ({}, {"lastmodifieddate": DATE}, [("creator", 0, 1), ("keywords", 0, 1), ("description", 0, 1)]),
    "creator": ({}, {}, []),
    "keywords": ({}, {}, []),
    "description": ({}, {}, []),
    "graph": ({}, {"defaultedgetype": {"directed", "undirected", "mutual"}, "idtype": {"integer", "string"},
                   "mode": {"static", "dynamic", "slice"}, "timeformat": {"integer", "double", "date", "dateTime"},
                   "timerepresentation": {"interval", "timestamp"}, "timezone": TEXT, **SPAN},
              [("attributes", 0, MANY), ("nodes", 1, 1), ("edges", 1, 1)]),
    "attributes": ({"class": {"node", "edge"}}, {"mode": {"static", "dynamic"}}, [("attribute", 0, MANY)]),
    "attribute": ({"id": TEXT, "title": TEXT, "type": TYPES}, {}, [("default", 0, 1), ("options", 0, 1)]),
    "default": ({}, {}, []),
    "options": ({}, {}, []),
    "nodes": ({}, {"count": COUNT}, [("node", 0, MANY)]),
    "edges": ({}, {"count": COUNT}, [("edge", 0, MANY)]),
    "node": ({"id": TEXT}, {"label": TEXT, **LONG_SPAN}, [("attvalues", 0, 1)]),
    "edge": ({"source": TEXT, "target": TEXT},
             {"id": TEXT, "type": {"directed", "undirected", "mutual"}, "label": TEXT, "weight": DOUBLE, "kind": TEXT, **LONG_SPAN},
             [("attvalues", 0, 1)]),
    "attvalues": ({}, {}, [("attvalue", 0, MANY)]),
    "attvalue": ({"for": TEXT, "value": TEXT}, SPAN, []),
}

# What a value of a declared type looks like, of the types that we use.
VALUES = {"string": TEXT, "long": re.compile(r"[+-]?\d+"), "integer": re.compile(r"[+-]?\d+"), "double": DOUBLE,
          "boolean": re.compile("true|false|1|0")}


class Invalid(Exception):
    """The file is not what it must be."""


def need(is_so, what):
    if not is_so:
        raise Invalid(what)


def name_of(element):
    need(element.tag.startswith(NAMESPACE), f"{element.tag} is not of GEXF 1.3")
    return element.tag[len(NAMESPACE):]


def check_element(element):
    """An element and all that is in it, by the table."""
    name = name_of(element)
    need(name in ELEMENTS, f"no element {name}")
    demanded, allowed, children = ELEMENTS[name]
    for key, value in element.attrib.items():
        rule = demanded.get(key) or allowed.get(key)
        need(rule is not None, f"{name} has an attribute {key}")
        fits = value in rule if isinstance(rule, set) else rule.fullmatch(value)
        need(fits, f"{name} has {key}={value!r}")
    for key in demanded:
        need(key in element.attrib, f"{name} has no {key}")
    points = {"timestamp", "timestamps"} & set(element.attrib)
    need(not (points and {"start", "end", "intervals"} & set(element.attrib)), f"{name} is a time and a span of it")
    if children:
        need(not (element.text or "").strip(), f"{name} has text")
    at, inside = 0, list(element)
    for child, least, most in children:
        count = 0
        while at < len(inside) and count < most and name_of(inside[at]) == child:
            check_element(inside[at])
            at, count = at + 1, count + 1
        need(count >= least, f"{name} has {count} {child}")
    need(at == len(inside), f"{name} has {[name_of(child) for child in inside[at:at + 3]]} where none may be")


def check_references(root):
    """What the schema leaves to whoever reads: ids, declared attributes, and times that make sense."""
    graph = root.find(f"{NAMESPACE}graph")
    declared = {}
    for attributes in graph.iter(f"{NAMESPACE}attributes"):
        for attribute in attributes:
            key = attributes.get("class"), attribute.get("id")
            need(key not in declared, f"{key} is declared twice")
            declared[key] = attribute.get("type")
    nodes = set()
    for kind in ("node", "edge"):
        ids = set()
        for element in graph.iter(NAMESPACE + kind):
            need(element.get("id") not in ids, f"{kind} {element.get('id')} is there twice")
            ids.add(element.get("id"))
            for value in element.iter(f"{NAMESPACE}attvalue"):
                declared_type = declared.get((kind, value.get("for")))
                need(declared_type in VALUES, f"a {kind} has {value.get('for')}, which is not declared")
                need(VALUES[declared_type].fullmatch(value.get("value")), f"{value.attrib} is no {declared_type}")
            start, end = element.get("start"), element.get("end")
            need((start is None) == (end is None), f"{kind} {element.get('id')} has half a span")
            need(start is None or float(start) <= float(end), f"{kind} {element.get('id')} ends before it starts")
            if kind == "edge":
                need({element.get("source"), element.get("target")} <= nodes, f"edge {element.get('id')} leads nowhere")
        if kind == "node":
            nodes = ids


def check(path):
    """Reads a file; raises `Invalid` with what is wrong."""
    root = ElementTree.parse(path).getroot()
    need(name_of(root) == "gexf", "the root is another element")
    check_element(root)
    check_references(root)
