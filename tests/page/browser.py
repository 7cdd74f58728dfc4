"""Debian's Chromium before a real daemon, for tests/page: one browser for all, a page for each test.

What the browser asked for and what its console said are looked at after each test: nothing goes to another
host, and nothing is complained about. With SAED_SHOTS=DIR pictures are written there.
"""
import contextlib
import http.client
import http.server
import json
import os
import sys
import threading
import unittest
from urllib.parse import urlsplit

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "python"))
from support import Case  # noqa: E402
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.options import Options  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

SHOTS = os.environ.get("SAED_SHOTS")
SECONDS = 30


def open_browser():
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server", "--hide-scrollbars"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(service=Service("/usr/bin/chromedriver"), options=options)


class Page(Case):
    """Tests of one daemon and one browser."""
    WIDTH, HEIGHT, IS_DARK = 1180, 900, False

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.driver = open_browser()
        cls.stack.callback(cls.driver.quit)

    def setUp(self):
        self.allowed = ["willReadFrequently"]  # of what the console says: that tests read canvases
        self.cdp("Emulation.setDeviceMetricsOverride", width=self.WIDTH, height=self.HEIGHT,
                 deviceScaleFactor=1, mobile=self.WIDTH < 600)
        self.cdp("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if self.IS_DARK else "light"}])
        self.visit(self.url + "/")

    def tearDown(self):
        said, asked = self.logs()
        self.driver.get("about:blank")
        self.assertEqual([], [line for line in said if not any(a in line for a in self.allowed)])
        self.assertEqual([], [url for url in asked if urlsplit(url).netloc not in self.hosts])

    def visit(self, url):
        self.driver.get("about:blank")
        self.logs()
        self.hosts = {urlsplit(url).netloc}
        self.driver.get(url)

    def logs(self):
        """What the console has said since, and the URLs that were asked for."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        return said, [url for url in asked if not url.startswith(("about:", "data:", "chrome:"))]

    def cdp(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def find(self, css):
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def wait(self, condition, what):
        return WebDriverWait(self.driver, SECONDS, poll_frequency=0.05,
                             ignored_exceptions=[Exception]).until(lambda _: condition(), what)

    def text(self, css):
        return self.script("const e = document.querySelector(arguments[0]); return e ? e.textContent : ''", css)

    def wait_text(self, css, part):
        self.wait(lambda: part in self.text(css), f"{css} never said {part!r}")

    def click(self, css):
        self.wait(lambda: self.find(css).is_displayed() and self.find(css).is_enabled(), css + " is not there")
        self.find(css).click()

    def choose(self, name):
        self.click(f'#dictionaries button[data-name="{name}"]')
        self.wait_text("#name", name)

    def pixels(self, css):
        """Colours of a canvas, a triple each."""
        flat = self.script("""const c = document.querySelector(arguments[0]);
            return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)""", css)
        return [tuple(flat[i:i + 3]) for i in range(0, len(flat), 4)]

    def shot(self, name):
        if not SHOTS:
            return
        os.makedirs(SHOTS, exist_ok=True)
        self.script("window.scrollTo(0, 0)")
        self.driver.save_screenshot(os.path.join(SHOTS, name + ".png"))


@contextlib.contextmanager
def proxy(target, prefix):
    """The URL of a proxy that has `target` below a path of its own, as jupyter-server-proxy does: Host and
    Origin are handed on as they are."""
    to = urlsplit(target)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            upstream = http.client.HTTPConnection(to.hostname, to.port)
            upstream.request(self.command, "/" + self.path[len(prefix):], body or None, dict(self.headers))
            answer = upstream.getresponse()
            data = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name not in ("Connection", "Keep-Alive"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            upstream.close()

        do_GET = do_POST = forward

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}{prefix}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


__all__ = ["Page", "proxy", "unittest"]
