"""The graph of `harbinger analyze --graph` is read by others, and is what incidents.csv says: its components are the incidents.
And what the report says first is what matters.

What is read is our own recording, by the default and by the notebook's rule, and the public OpenStack set where
HARBINGER_DATA_DIR has it.
"""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import packages  # noqa: F401  (makes networkx importable)

import networkx

from graph import gexf
from processes import ROOT, harbinger
from recorded import RECORDING

csv.field_size_limit(sys.maxsize)

COMPONENTS = """
processors:
  harbinger: {correlation: {mode: components, scope: all}}
service:
  pipelines: {logs: {receivers: [otlp], processors: [harbinger], exporters: [debug]}}
receivers: {otlp: {protocols: {grpc: {}}}}
exporters: {debug: {}}
"""

OPENSTACK = Path(os.environ.get("HARBINGER_DATA_DIR") or ROOT.parent / "shared/data") / "openstack-faults.csv.gz"


# Incidents that a browser of 1280 x 1400 pixels shows without being scrolled.
SCREENFUL = 30


def places_of_faults(report, annotated):
    """For each fault with a labelled line in an incident of the report, where the first such incident stands, from 1."""
    data = re.search(r'id="harbinger-data">(.*?)</script>', report.read_text(encoding="utf-8"), re.DOTALL)[1]
    place_of = {incident["id"]: place for place, incident in enumerate(json.loads(data)["incidents"], 1)}
    places = {}
    with open(annotated, encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            if row["label"] == "1" and row["incident_id"]:
                place = place_of[row["incident_id"]]
                places[row["fault"]] = min(place, places.get(row["fault"], place))
    return places


@contextlib.contextmanager
def analyzed(source, *options):
    """Runs the command; gives the path of the graph, and incidents.csv."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder, "incidents.gexf")
        command = [harbinger(), "analyze", str(source), "--out", folder, "--graph", str(graph), *options]
        done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
        if done.returncode:
            raise AssertionError(f"{command}: {done.stderr}")
        with open(Path(folder, "incidents.csv"), encoding="utf-8", newline="") as incidents:
            yield graph, list(csv.DictReader(incidents))


class Graph(unittest.TestCase):
    def assert_fits(self, path, incidents):
        """networkx reads it, the schema's rules hold, and what it says is what the list says."""
        gexf.check(path)
        graph = networkx.read_gexf(path, version="1.3")
        told = {}
        for component in networkx.connected_components(graph):
            nodes = [graph.nodes[node] for node in component]
            [incident] = {node["incident_id"] for node in nodes}
            self.assertNotIn(incident, told, "an incident is in two pieces")
            told[incident] = sum(node["records"] for node in nodes), sum(node["anomalous_records"] for node in nodes)
        self.assertEqual(told.keys(), {incident["incident_id"] for incident in incidents})
        for incident in incidents:
            records = len(json.loads(incident["related_logs"]))
            self.assertEqual(told[incident["incident_id"]][0], records, incident["incident_id"])
            if "anomalous_records" in incident:
                self.assertEqual(told[incident["incident_id"]][1], int(incident["anomalous_records"]))
        self.assertEqual(graph.number_of_edges(), graph.number_of_nodes() - len(incidents))
        for _, _, edge in graph.edges(data=True):
            self.assertGreater(edge["weight"], 0)
        return graph

    def test_the_recording(self):
        """Each incident is one component; every tie has its kind, and those that the engine weighed their odds."""
        with analyzed(RECORDING) as (path, incidents):
            graph = self.assert_fits(path, incidents)
        self.assertGreater(len(incidents), 4)
        for _, _, edge in graph.edges(data=True):
            self.assertIn(edge["kind"], {"meaning", "shared_id", "time", "service", "companion", "context", "merged"})
            self.assertEqual("log_odds" in edge, edge["kind"] not in {"context", "merged"})
        for _, node in graph.nodes(data=True):
            self.assertEqual(node["is_anomaly"], node["anomalous_records"] > 0)
            self.assertLessEqual(node["start"], node["end"])
            self.assertTrue(node["template"] and node["service"] and node["label"])

    def test_incidents_that_are_not_listed_are_not_in_the_graph(self):
        with analyzed(RECORDING, "--min-size", "20") as (path, incidents):
            self.assert_fits(path, incidents)
        self.assertGreater(len(incidents), 2)

    def test_the_notebook_s_rule_in_the_engine(self):
        """Every record is a node of that graph, so nothing is context."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
            config.write(COMPONENTS)
            config.flush()
            with analyzed(RECORDING, "--config", config.name) as (path, incidents):
                graph = self.assert_fits(path, incidents)
        self.assertLessEqual({edge["kind"] for _, _, edge in graph.edges(data=True)}, {"meaning", "merged"})

    def test_the_notebook_s_profile(self):
        with tempfile.TemporaryDirectory() as folder:
            example = Path(folder, "example.csv")
            example.write_text("timestamp,log\n2024-11-18 10:00:00,User login failed.\n2024-11-18 10:01:00,Login unsuccessful.\n"
                               "2024-11-18 10:05:00,Service \x1b[31munavailable & <gone>.\n,No time at all\n", encoding="utf-8")
            with analyzed(example, "--profile", "notebook") as (path, incidents):
                graph = self.assert_fits(path, incidents)
        self.assertEqual([(edge["kind"], edge["weight"] > 0) for _, _, edge in graph.edges(data=True)], [("meaning", True)])

    @unittest.skipUnless(OPENSTACK.exists(), f"{OPENSTACK} is not there; see README.md")
    def test_openstack(self):
        """The graph fits; and whoever opens the report finds an incident of every fault in the first screenful."""
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder, "report.html")
            with analyzed(OPENSTACK, "--report", str(report)) as (path, incidents):
                graph = self.assert_fits(path, incidents)
                places = places_of_faults(report, path.parent / "annotated.csv")
        self.assertGreater(graph.number_of_nodes(), 100)
        self.assertEqual(len(places), 23, "one of the 24 faults has no labelled line")
        self.assertLessEqual(max(places.values()), SCREENFUL, places)


class Rules(unittest.TestCase):
    """The reader that stands for the schema refuses what it must."""

    GRAPH = ('<gexf xmlns="http://gexf.net/1.3" version="1.3"><graph mode="dynamic" timeformat="double">'
             '<attributes class="node"><attribute id="n" title="n" type="long"/></attributes>'
             '<nodes><node id="a" start="1" end="2"><attvalues><attvalue for="n" value="1"/></attvalues></node><node id="b"/></nodes>'
             '<edges><edge id="1" source="a" target="b" weight="0.5"/></edges></graph></gexf>')

    def refused(self, was, becomes):
        text = self.GRAPH.replace(was, becomes)
        self.assertTrue(was == becomes or text != self.GRAPH, was)
        with tempfile.NamedTemporaryFile("w", suffix=".gexf") as file:
            file.write(text)
            file.flush()
            try:
                gexf.check(file.name)
            except gexf.Invalid:
                return True
            return False

    def test_what_is_right_is_taken_and_what_is_wrong_refused(self):
        self.assertFalse(self.refused("", ""))
        for was, becomes in [('version="1.3"', 'version="1.2"'), ("gexf.net/1.3", "gexf.net/1.2draft"), ('mode="dynamic"', 'mode="live"'),
                             ('type="long"', 'type="number"'), ('value="1"', 'value="one"'), ('for="n"', 'for="m"'),
                             ('id="b"', 'id="a"'), ('target="b"', 'target="c"'), ('weight="0.5"', 'weight="much"'),
                             ('start="1" end="2"', 'start="3" end="2"'), ('<node id="b"/>', "<edge/>"), (' id="b"', ' id="b" colour="red"'),
                             ("<edges>", "<nodes/><edges>")]:
            with self.subTest(becomes):
                self.assertTrue(self.refused(was, becomes))


if __name__ == "__main__":
    unittest.main()
