"""Headless Chromium with the page in it, watched: what it logs, asks for and fails at.

What enters: an address. What leaves: a page of Playwright; afterwards what went wrong. Promised: Debian's browser, an empty profile, no
background requests of its own; a test that opens a page through this fails where the page logged, failed a request, or asked anybody
but where it came from. A page is closed when no call of its is under way (the stream of changes aside), so that any call that fails
is a failure. Absent: waiting for a time (Playwright's `expect` waits for conditions).
"""

import sys
import time
from contextlib import contextmanager
from urllib.parse import urlsplit

from processes import ROOT, binary

PACKAGES = ROOT / "target/integration/page"
sys.path.insert(0, str(PACKAGES))

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError as missing:
    raise SystemExit(f"{missing}: run `make integration-page`, which fills {PACKAGES}") from None

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]
STREAM = "WatchIncidents"
AXE = ROOT / "target/page/node_modules/axe-core/axe.min.js"
DESKTOP, PHONE = (1440, 900), (390, 844)
expect.set_options(timeout=20_000)

__all__ = ["AXE", "DESKTOP", "PHONE", "Browser", "axe", "expect"]


class Browser:
    """Chromium, for as long as a test class runs."""

    def __init__(self):
        self.playwright = sync_playwright().start()
        path = binary("CHROMIUM_BIN", "/usr/bin/chromium", "install Debian's package chromium")
        self.chromium = self.playwright.chromium.launch(executable_path=path, args=FLAGS)
        self.under_way = {}

    def close(self):
        self.chromium.close()
        self.playwright.stop()

    def settle(self, page):
        """Returns when every call has been answered: what leads away from a page ends the calls that it makes."""
        deadline, calls = time.monotonic() + 20, self.under_way[page]
        while calls:
            assert time.monotonic() < deadline, f"not answered: {[request.url for request in calls]}"
            # What happened meanwhile is heard while Playwright talks to the browser.
            page.evaluate("() => new Promise(requestAnimationFrame)")

    @contextmanager
    def page(self, url, size=DESKTOP, scheme="light", offline=False, scripts=(), expected=()):
        """The page at that address; `expected` are parts of what may be logged."""
        context = self.chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, has_touch=size == PHONE, offline=offline,
            timezone_id="Europe/Berlin", reduced_motion="reduce",
        )
        for script in scripts:
            context.add_init_script(path=script)
        page = context.new_page()
        page.set_default_timeout(20_000)
        wrong, calls = [], set()
        self.under_way[page] = calls
        home = urlsplit(url)

        def asked(request):
            at = urlsplit(request.url)
            if (at.scheme, at.netloc) != (home.scheme, home.netloc) and at.scheme not in ("data", "about"):
                wrong.append(f"asked {request.url}")
            if STREAM not in request.url:
                calls.add(request)

        def finished(request):
            calls.discard(request)

        def failed(request):
            finished(request)
            # The stream ends with the page, and where a test breaks it.
            if STREAM not in request.url:
                wrong.append(f"failed: {request.url} {request.failure}")

        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error} {error.stack}"))
        page.on("request", asked)
        page.on("requestfinished", finished)
        page.on("requestfailed", failed)
        page.on("response", lambda answer: answer.status < 400 or wrong.append(f"{answer.status}: {answer.url}"))
        try:
            page.goto(url)
            yield page
            self.settle(page)
            # What is under way from here on ends with the page.
            found = [words for words in wrong if not any(part in words for part in expected)]
        finally:
            del self.under_way[page]
            context.close()
        assert not found, "\n".join(found)


def axe(page):
    """What axe-core finds wrong by WCAG 2.2 A and AA and its good practices, in words; the page was opened with AXE among its scripts."""
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    assert len(found["passes"]) > 10, "axe looked at something"
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(f"{node['html'][:160]} [{(node['any'] or node['all'] or node['none'] or [{'message': ''}])[0]['message']}]" for node in one["nodes"][:4])
        for one in found["violations"]
    ]
