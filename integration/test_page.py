"""The incident page in a real browser: beside a live agent, as a report from a file, and with more incidents than an agent has at a time.

Guarantees:

* page.html is what its sources build, to the byte; types are sound; what is bundled has licences that deny.toml allows;
* beside a real agent under replay: an incident appears by itself, can be filtered for, opened, and said to be normal; the agent's next
  verdicts are others, and the page shows what was said and takes it back;
* with 1,000 incidents and changes coming in: what one reads stays where it is, focus stays, only what is near the view is in the document;
* a stream that breaks is taken up where it broke; a token is asked for where one is needed;
* a report is whole from a file with the network off, with 5 incidents and with 5,000; that of a real set names each fault at once;
* nothing is logged, nothing fails, nobody else is asked, no text of a log becomes markup; axe-core finds nothing, in both themes and widths.

Needs what `make integration-page` installs (Chromium by apt, as root) and what `make page` leaves in target/page.
"""

import csv
import json
import os
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from page import made
from page.browser import AXE, DESKTOP, PHONE, Browser, axe, expect
from page.stand_in import PAGE, StandIn
from processes import ROOT, harbinger
from recorded import ReplayTest, attributes, fault, records_of, requests_in

WEB = ROOT / "src/edge/api/page/web"
NODE_MODULES = ROOT / "target/page/node_modules"
SLOT = '<script type="application/json" id="harbinger-data">null</script>'
# Real labelled logs, not ours to publish.
DATA = Path(os.environ.get("HARBINGER_DATA_DIR", ROOT.parent / "shared/data")) / "openstack-faults.csv.gz"
# What Chromium logs by itself when a call is refused, or a connection.
REFUSED = "Failed to load resource"


class Built(unittest.TestCase):
    def setUp(self):
        self.assertTrue(NODE_MODULES.is_dir(), "run `make target/page/.stamp`")
        self.dir = Path(tempfile.mkdtemp(prefix="harbinger-it-"))
        self.addCleanup(shutil.rmtree, self.dir)
        shutil.copytree(WEB, self.dir / "web")
        (self.dir / "web/node_modules").symlink_to(NODE_MODULES)

    def node(self, *command):
        done = subprocess.run(["node", *command], cwd=self.dir / "web", capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_committed_file_is_what_the_sources_build(self):
        self.node("build.mjs", str(self.dir / "page.html"))
        self.assertEqual((self.dir / "page.html").read_bytes(), PAGE.read_bytes(), "run `make page` and commit page.html")

    def test_types_are_sound(self):
        self.node("node_modules/typescript/bin/tsc", "--noEmit")

    def test_what_is_bundled_may_be(self):
        allowed = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))["licenses"]["allow"]
        packages = json.loads((WEB / "package-lock.json").read_text(encoding="utf-8"))["packages"]
        bundled = {name: one for name, one in packages.items() if name and not one.get("dev")}
        self.assertEqual([name for name, one in bundled.items() if one["license"] not in allowed], [])
        # Packages of which nothing but types is used are not in the file.
        page = PAGE.read_text(encoding="utf-8")
        for name, one in bundled.items():
            self.assertIn(f"\n{name.removeprefix('node_modules/')} {one['version']} ({one['license']})\n", page)


class BrowserTest(unittest.TestCase):
    """Tests with a browser, and a stand-in for the agent where that is asked for."""

    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def agent(self, incidents, **how):
        agent = StandIn(incidents, **how)
        self.addCleanup(agent.server_close)
        self.addCleanup(agent.shutdown)
        self.addCleanup(agent.break_streams)
        return agent

    def report(self, incidents):
        """The address of a made-up report, in a file of its own."""
        folder = Path(tempfile.mkdtemp(prefix="harbinger-it-"))
        self.addCleanup(shutil.rmtree, folder)
        data = json.dumps(made.report(incidents), ensure_ascii=False).replace("<", "\\u003c")
        (folder / "report.html").write_text(PAGE.read_text(encoding="utf-8").replace(SLOT, SLOT.replace("null", data)), encoding="utf-8")
        return (folder / "report.html").as_uri()


def rows(page):
    return page.locator(".incidents tbody a")


class Shown(BrowserTest):
    def test_everybody_can_use_it(self):
        agent, report = self.agent(60), self.report(5)
        for size, scheme in ((DESKTOP, "light"), (PHONE, "dark"), (DESKTOP, "dark")):
            with self.browser.page(agent.url, size, scheme, scripts=[AXE]) as page:
                rows(page).first.wait_for()
                self.assertEqual(axe(page), [], "the list")
                rows(page).nth(9).click()
                page.get_by_role("heading", name="What happened").wait_for()
                self.assertEqual(axe(page), [], "an incident")
                page.get_by_role("link", name="Templates").click()
                page.get_by_role("table", name="Templates").wait_for()
                self.assertEqual(axe(page), [], "templates")
                page.keyboard.press("?")
                page.get_by_role("dialog").wait_for()
                self.assertEqual(axe(page), [], "keys")
            with self.browser.page(f"{report}#/analysis", size, scheme, scripts=[AXE], offline=True) as page:
                page.get_by_role("heading", name="Map of templates").wait_for()
                self.assertEqual(axe(page), [], "scores and map")

    def test_a_phone_never_scrolls_sideways(self):
        agent, report = self.agent(60), self.report(5)
        for url in (agent.url, f"{report}", f"{report}#/analysis"):
            with self.browser.page(url, PHONE) as page:
                page.locator("main section, main table").first.wait_for()
                self.assertLessEqual(page.evaluate("() => document.documentElement.scrollWidth"), PHONE[0], url)

    def test_texts_of_logs_are_texts(self):
        agent = self.agent(40)
        wild = next(text for text in made.TEXTS if "<script>" in text)
        one = next(one for one in agent.incidents.values() if one["leading_edge"]["text"] == wild)
        with self.browser.page(f"{agent.url}#/incident/{one['id']}") as page:
            expect(page.get_by_role("heading", level=1)).to_have_text(wild)
            self.assertEqual(page.locator("main img, main script, h1 b").count(), 0)
            page.keyboard.press("Escape")
            expect(page.get_by_role("link", name=wild).first).to_be_visible()

    def test_links_and_queries_are_filled_in(self):
        agent = self.agent(10)
        one = next(iter(agent.incidents.values()))
        with self.browser.page(f"{agent.url}#/incident/{one['id']}") as page:
            asked = parse_qs(urlsplit(page.get_by_role("link", name="Logs in Grafana").get_attribute("href")).query)
            self.assertEqual(json.loads(asked["left"][0]), {"q": one["logql"]["logql"]})
            self.assertEqual(int(asked["from"][0]), round(datetime.fromisoformat(one["logql"]["start"]).timestamp() * 1000))
            page.get_by_role("button", name="Copy the query: All of it").click()
            expect(page.get_by_role("button", name="Copy the query: All of it")).to_have_text("Copied")
            page.get_by_label("Comment").click()
            page.keyboard.press("Control+V")
            expect(page.get_by_label("Comment")).to_have_value(one["logql"]["logql"])

    def test_keys_and_the_way_back(self):
        agent = self.agent(60)
        with self.browser.page(agent.url) as page:
            # An incident that is shown is asked for again, a moment later: what leads away before that is answered would break it off.
            opening = lambda: page.expect_event("requestfinished", lambda request: "GetIncident" in request.url)
            rows(page).first.wait_for()
            page.keyboard.press("/")
            page.keyboard.type("deadlock")
            page.wait_for_url("**text=deadlock**")
            page.keyboard.press("Escape")
            page.keyboard.press("j")
            page.keyboard.press("ArrowDown")
            second = rows(page).nth(1)
            expect(second).to_be_focused()
            line = second.inner_text()
            with opening():
                page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_have_text(line)
            page.keyboard.press("Escape")
            expect(rows(page).nth(1)).to_be_focused()
            # The filter is in the address, and the browser's own way back leads through the incident again.
            self.assertIn("text=deadlock", page.url)
            with opening():
                page.go_back()
            expect(page.get_by_role("heading", level=1)).to_have_text(line)
            self.browser.settle(page)
            page.reload()
            expect(page.get_by_role("heading", level=1)).to_have_text(line)

    def test_updates_move_neither_what_is_read_nor_the_focus(self):
        agent = self.agent(1000)
        with self.browser.page(agent.url) as page:
            rows(page).first.wait_for()
            page.evaluate("() => scrollTo(0, 9000)")
            # What is drawn where the window is now; a row of where it was may go at any moment.
            name = page.wait_for_function(
                "() => document.elementFromPoint(innerWidth / 2, innerHeight / 2)?.closest('.incidents .row')?.querySelector('a').id"
            ).json_value()
            page.locator(f"#{name}").focus()
            page.evaluate("() => scrollBy(0, 100)")
            before = page.locator(f"#{name}").bounding_box()
            listed = agent.sequence
            for _ in range(200):
                agent.change()
            newest = max(agent.incidents.values(), key=lambda one: one["first_time"])
            self.assertGreater(agent.sequence, listed + 199)
            expect(page.locator(".counted")).to_have_text(f"{len(agent.incidents):,} incidents")
            expect(page.locator(f"#{name}")).to_be_focused()
            after = page.locator(f"#{name}").bounding_box()
            self.assertAlmostEqual(after["y"], before["y"], delta=1.5)
            self.assertLess(rows(page).count(), 120, "of a thousand, those near the view")
            page.evaluate("() => scrollTo(0, 0)")
            expect(page.locator(f"#incident-{newest['id']}")).to_be_visible()

    def test_a_pause_holds_the_page_still(self):
        agent = self.agent(10)
        with self.browser.page(agent.url) as page:
            expect(page.locator(".counted")).to_have_text("10 incidents")
            page.keyboard.press("p")
            agent.tell("HAPPENED_OPENED", made.incidents(1, seed=9)[0])
            expect(page.locator(".light")).to_have_text("paused, 1 change waiting")
            self.assertEqual(page.locator(".counted").inner_text(), "10 incidents")
            page.keyboard.press("p")
            expect(page.locator(".light")).to_have_text("live")
            page.get_by_role("button", name="Show all").click()
            expect(page.locator(".counted")).to_have_text("11 incidents")

    def test_a_stream_that_breaks_is_taken_up_where_it_broke(self):
        agent = self.agent(10)
        with self.browser.page(agent.url) as page:
            expect(page.locator(".light")).to_have_text("live")
            asked = []
            page.on("request", lambda request: asked.append(request.url))
            agent.break_streams()
            agent.change()
            agent.tell("HAPPENED_OPENED", {**made.incidents(1, seed=9)[0], "services": ["told-meanwhile"]})
            expect(page.get_by_label("Service").locator("option", has_text="told-meanwhile")).to_have_count(1)
            expect(page.locator(".light")).to_have_text("live")
            self.assertIn("after_sequence=1000", "".join(asked))
            self.assertFalse([url for url in asked if "ListIncidents" in url], "nothing was missed, so nothing is listed anew")

    def test_a_token_is_asked_for_and_goes_with_every_call(self):
        agent = self.agent(10, token="swordfish")
        with self.browser.page(agent.url, expected=[REFUSED, "401"]) as page:
            field = page.get_by_role("textbox", name="Token")
            field.fill("wrong")
            field.press("Enter")
            expect(field).to_have_value("")
            field.fill("swordfish")
            field.press("Enter")
            expect(page.locator(".counted")).to_have_text("10 incidents")
            self.assertNotIn("swordfish", page.url)


class Report(BrowserTest):
    def test_it_is_whole_from_a_file_without_a_network(self):
        for incidents in (5, 5000):
            with self.subTest(incidents=incidents), self.browser.page(self.report(incidents), offline=True) as page:
                expect(page.locator(".counted")).to_have_text(f"{incidents:,} incidents")
                rows(page).first.focus()
                page.keyboard.press("End")
                last = page.locator(f".incidents tr[aria-rowindex='{incidents + 1}'] a")
                expect(last).to_be_focused()
                line = last.inner_text()
                page.keyboard.press("Enter")
                expect(page.get_by_role("heading", level=1)).to_have_text(line)
                self.assertEqual(page.get_by_role("button", name="Tell the agent").count(), 0, "nobody listens")
                page.keyboard.press("Escape")
                expect(last).to_be_focused()
                expect(last).to_be_in_viewport()
                page.get_by_role("link", name="Scores and map").click()
                for heading in ("Anomaly scores over time", "Map of templates", "Reconstruction error"):
                    expect(page.get_by_role("heading", name=heading)).to_be_visible()
                page.get_by_role("group", name="Map of templates").focus()
                page.keyboard.press("ArrowRight")
                expect(page.locator(".map + .pointed")).to_contain_text("anomalous")

    @unittest.skipUnless(DATA.is_file(), "HARBINGER_DATA_DIR has no openstack-faults.csv.gz")
    def test_a_real_one_names_each_fault_within_its_first_screenful_of_incidents(self):
        folder = Path(tempfile.mkdtemp(prefix="harbinger-it-"))
        self.addCleanup(shutil.rmtree, folder)
        command = [harbinger(), "analyze", str(DATA), "--out", str(folder), "--report", str(folder / "report.html")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        faults = defaultdict(set)
        with open(folder / "annotated.csv", encoding="utf-8", newline="") as table:
            for row in csv.DictReader(table):
                if row["label"] == "1":
                    faults[row["fault"]].add(row["incident_id"])
        self.assertEqual(len(faults), 23, "of 24: one has left no line behind that is labelled")
        with self.browser.page((folder / "report.html").as_uri(), offline=True) as page:
            rows(page).first.wait_for()
            # The table's head at the top of the window: what is in sight is a screenful of incidents.
            page.locator(".incidents thead").scroll_into_view_if_needed()
            page.evaluate("() => scrollBy(0, document.querySelector('.incidents tbody').getBoundingClientRect().top - 80)")
            expect(rows(page).first).to_be_in_viewport()
            seen = page.evaluate("""() => [...document.querySelectorAll('.incidents tbody a')]
                .filter((one) => one.getBoundingClientRect().bottom <= innerHeight).map((one) => one.id.replace('incident-', ''))""")
            unseen = {fault for fault, incidents in faults.items() if not incidents & set(seen)}
            self.assertEqual(unseen, set(), f"of {len(seen)} incidents")

    def test_what_is_not_in_the_data_is_left_out(self):
        data = made.report(3)
        for name in ("scores", "map", "reconstruction_error"):
            del data[name]
        for one in data["incidents"]:
            for name in ("course", "service_counts", "leading_edge", "worst", "logql", "logql_before"):
                del one[name]
        folder = Path(tempfile.mkdtemp(prefix="harbinger-it-"))
        self.addCleanup(shutil.rmtree, folder)
        text = PAGE.read_text(encoding="utf-8").replace(SLOT, SLOT.replace("null", json.dumps(data).replace("<", "\\u003c")))
        (folder / "report.html").write_text(text, encoding="utf-8")
        with self.browser.page((folder / "report.html").as_uri(), offline=True) as page:
            expect(page.locator(".counted")).to_have_text("3 incidents")
            self.assertEqual(page.get_by_role("link", name="Scores and map").count(), 0)
            rows(page).first.click()
            expect(page.get_by_role("heading", name="What was said")).to_be_visible()

    def test_on_paper_all_of_it_is_there(self):
        with self.browser.page(self.report(200), offline=True) as page:
            rows(page).first.wait_for()
            self.assertLess(rows(page).count(), 200)
            # Heard after the page's own listener has been heard, and what that set off: what is on the paper.
            page.evaluate("""() => addEventListener('beforeprint', () => {
                window.printed = document.querySelectorAll('.incidents tbody a').length + 1000 * document.querySelectorAll('.analysis h2').length;
            })""")
            page.pdf()
            self.assertEqual(page.evaluate("() => window.printed"), 3200, "three charts, 200 incidents")


class Live(ReplayTest, BrowserTest):
    """Beside a real agent, on the recording of real servers being broken."""

    deadline_seconds = 240

    def verdicts(self, words):
        """Of the records so far that say these words, in order: whether each is marked."""
        found = []
        for request in requests_in(self.dir / "judged.jsonl"):
            for record in records_of(request):
                if words in record["body"].get("stringValue", ""):
                    found.append(attributes(record)["is_anomaly"])
        return found

    def test_an_incident_comes_is_opened_and_said_to_be_normal(self):
        words = "Write error saving DB on disk"
        start, end = fault("redis_cannot_persist")
        middle = (start + end) / 2
        self.start_agent()
        with self.browser.page(f"http://localhost:{self.page_port}/") as page:
            expect(page.locator(".light")).to_have_text("live")
            expect(page.locator(".status-line .badge").first).to_have_text("warming up")
            expect(page.get_by_text("No incident yet.")).to_be_visible()
            self.replay("warm-up.jsonl", 0, start, "max")
            expect(page.locator(".status-line .badge").first).to_have_text("ready", timeout=100_000)

            # It comes by itself. At a pace at which new sentences are embedded before the next ones come, as in life.
            self.replay("fault.jsonl", start, middle, "20x")
            page.get_by_role("searchbox").fill(words)
            found = rows(page).filter(has_text=words).first
            expect(found).to_be_visible()
            page.get_by_label("Severity").select_option(label="FATAL")
            expect(page.get_by_text("No incident passes the filters.")).to_be_visible()
            page.get_by_label("Severity").select_option(label="Any")
            found.click()
            expect(page.get_by_role("heading", level=1)).to_contain_text(words)
            expect(page.locator(".incident-head .state")).to_have_text("open")
            expect(page.get_by_text("Why it is marked:").first).to_be_visible()
            self.assertGreater(page.locator(".templates-of-incident tbody tr").count(), 0)
            before = self.verdicts(words)
            self.assertIn(True, before)

            page.get_by_label("Normal", exact=False).check()
            page.get_by_label("Comment").fill("we know this disk")
            page.get_by_label("Who says so").fill("test_page")
            page.get_by_role("button", name="Tell the agent").click()
            expect(page.locator(".answer .notice.good")).to_be_visible()
            expect(page.locator(".incident-head .state")).to_have_text("closed")
            expect(page.get_by_text("somebody said that it is none")).to_be_visible()

            self.replay("more.jsonl", middle, end, "20x")
            after = self.verdicts(words)[len(before):]
            self.assertTrue(after)
            self.assertNotIn(True, after, "the next verdict is another")

            # What was said is to be seen, and taken back.
            page.get_by_role("link", name="All feedback").click()
            said = page.get_by_role("row").filter(has_text=words)
            expect(said).to_contain_text("we know this disk")
            said.get_by_role("button", name="Withdraw").click()
            said.get_by_role("button", name="Take back").click()
            expect(page.get_by_role("status").filter(has_text="Taken back")).to_be_visible()
            expect(page.get_by_role("row").filter(has_text=words)).to_have_count(0)
            page.get_by_role("link", name="Templates").click()
            page.get_by_role("searchbox").fill(words)
            expect(page.get_by_role("row").filter(has_text=words).first).to_be_visible()


if __name__ == "__main__":
    unittest.main()
