#!/usr/bin/python3
"""The page of GET / in Debian's Chromium, with real clicks and keys, against a real daemon."""
import json
import os
import re
import shutil
import tempfile
import urllib.request
from urllib.parse import urlsplit

from browser import Page, proxy
from support import DIGITS, ROOT, daemon, main
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
import numpy as np

KEY = "correct-horse-battery-staple"
WORDS = os.path.join(ROOT, "deploy/demo/words.safetensors")
NPY = os.path.join(ROOT, "deploy/demo/digits.npy")


def number(text):
    return float(re.search(r"-?[\d.]+(?:e-?\d+)?", text).group())


def post(url, name, op, body):
    request = urllib.request.Request(f"{url}/v1/dictionaries/{name}/{op}", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


class Explorer(Page):
    HEIGHT = 1000
    SERVED = ["digits=" + DIGITS, "wide=init:AutoEncoderNew:768:4096:l0=40", "id=identity:6",
              "enc=" + DIGITS + ":parts=encoder"]

    def setUp(self):
        super().setUp()
        self.wait_text("#l0", "of 256")
        self.rows = np.load(NPY).astype("<f4")

    def post(self, op, body):
        return post(self.url, "digits", op, body)

    def sample(self, i):
        self.click(f"#samples button:nth-child({i + 1})")

    def top(self):
        """ids and values as the page has them."""
        return [(int(i), float(v)) for i, v in self.script("""return [...document.querySelectorAll('#top button')].map(
            (b) => [b.dataset.id, b.querySelector('.value').textContent])""")]

    def wait_row(self, x):
        """Until the page shows what encode says of x."""
        f = self.post("encode", {"x": x.tolist(), "top_k": 12})["f"]
        self.wait(lambda: [i for i, _ in self.top()] == f["indices"][0], f"the features are not {f['indices']}")
        for (_, value), want in zip(self.top(), f["values"][0]):
            self.assertAlmostEqual(value, want, delta=6e-3 * abs(want))
        return f["indices"][0], f["values"][0]

    def test_dictionaries_and_how_they_do(self):
        shown = {b.get_attribute("data-name"): b.text for b in self.all("#dictionaries button")}
        self.assertEqual(list(shown), ["digits", "wide", "id", "enc"])
        self.assertIn("64 \u2192 256", shown["digits"])
        self.assertIn("AutoEncoder, float32", shown["digits"])
        self.assertIn("relu, centre bias", shown["digits"])
        self.assertIn("768 \u2192 4096", shown["wide"])
        for i in range(60):
            self.post("encode", {"x": self.rows[:20].tolist()})
        live = '#dictionaries button[data-name="digits"] '
        self.wait(lambda: number(self.text(live + ".live-rate")) > 50, "no rows/s")
        self.wait(lambda: number(self.text(live + ".live-batch")) > 5, "no rows a batch")
        self.assertRegex(self.text(live + ".live-p50"), r"p50 [\d.]+ (\u00b5s|ms)")
        self.assertRegex(self.text(live + ".live-p99"), r"p99 [\d.]+ (\u00b5s|ms)")
        self.assertGreater(number(self.text("#requests dd")), 1)
        self.assertRegex(self.text("#p99 dd"), r"[\d.]+ (\u00b5s|ms)")

    def test_a_digit_that_is_picked(self):
        self.sample(3)
        self.wait_row(self.rows[3])
        f = self.post("encode", {"x": self.rows[3].tolist(), "sparse": True})["f"]
        hat = np.array(self.post("decode", {"f": f})["x_hat"])
        error = np.square(self.rows[3] - hat).sum() / np.square(self.rows[3]).sum()
        self.assertEqual(self.text("#l0 dd"), f"{len(f['indices'][0])} of 256")
        self.assertAlmostEqual(number(self.text("#error dd")), 100 * error, delta=6e-3 * 100 * error)
        for canvas in ("#x", "#x-hat", "#left", "#top li:first-child canvas", "#direction"):
            self.assertEqual(len(self.pixels(canvas)), 64, canvas)
            self.assertGreater(len(set(self.pixels(canvas))), 4, canvas)
        self.assertEqual(self.pixels("#x")[0], tuple(bytes.fromhex("eef0f4")))
        self.assertIn("digits/encode?top_k=12", self.text("#curl-text"))

    def test_a_digit_that_is_drawn(self):
        self.click("#clear")
        self.wait_text("#l0 dd", " of 256")
        x = np.zeros(64, "<f4")
        self.wait_row(x)
        cells = self.all("#pad [role=gridcell]")
        ActionChains(self.driver).move_to_element(cells[10]).click_and_hold().move_to_element(
            cells[18]).move_to_element(cells[26]).release().perform()
        x[[10, 18, 26]] = 1
        self.wait_row(x)
        ActionChains(self.driver).send_keys(Keys.ARROW_RIGHT, Keys.SPACE, Keys.ARROW_DOWN, Keys.SPACE).perform()
        x[[27, 35]] = 1
        self.wait_row(x)
        self.click("#erase")
        self.assertEqual(self.find("#erase").get_attribute("aria-pressed"), "true")
        cells[10].click()
        x[10] = 0
        self.wait_row(x)
        self.click("#erase")

    def test_a_slider_moves_the_reconstruction(self):
        self.sample(2)
        ids, values = self.wait_row(self.rows[2])
        self.click("#top li:nth-child(2) button")
        self.wait_text("#feature-title", f"Feature {ids[1]}")
        before = self.pixels("#x-hat")
        slider = self.find("#value")
        self.assertAlmostEqual(float(slider.get_attribute("value")), values[1], delta=0.02)
        slider.send_keys(Keys.END)
        most = float(slider.get_attribute("max"))
        self.wait_text("#steered dd", "1 feature")
        self.wait(lambda: self.pixels("#x-hat") != before, "x_hat stands still")
        f = self.post("encode", {"x": self.rows[2].tolist(), "sparse": True})["f"]
        f["values"][0][f["indices"][0].index(ids[1])] = most
        hat = np.array(self.post("decode", {"f": f})["x_hat"])
        error = 100 * np.square(self.rows[2] - hat).sum() / np.square(self.rows[2]).sum()
        self.wait(lambda: abs(number(self.text("#error dd")) - error) < 6e-3 * error, f"error is not {error}")
        self.click("#off")
        self.wait(lambda: number(self.text("#l0 dd")) == len(f["indices"][0]) - 1, "it is not off")
        self.click("#reset")
        self.wait(lambda: self.pixels("#x-hat") == before, "x_hat does not come back")
        self.assertEqual(self.text("#steered"), "")

    def test_a_feature_that_is_off(self):
        self.sample(0)
        ids, _ = self.wait_row(self.rows[0])
        feature = next(j for j in range(256) if j not in ids)
        box = self.find("#feature-id")
        box.clear()
        box.send_keys(str(feature), Keys.ENTER)
        self.wait_text("#feature-title", f"Feature {feature}")
        one = np.zeros((2, 256))
        one[0, feature] = 1
        direction = np.subtract(*np.array(self.post("decode", {"f": one.tolist()})["x_hat"]))
        self.wait(lambda: abs(number(self.text("#decoder-norm dd")) - np.linalg.norm(direction)) < 1e-3, "norm")
        self.assertGreater(number(self.text("#encoder-norm dd")), 0)
        self.assertLessEqual(abs(number(self.text("#cosine dd"))), 1)
        self.assertIn("decoder direction of feature", self.find("#direction").get_attribute("aria-label"))
        ink = [sum(p) for p in self.pixels("#direction")]
        self.assertEqual(int(np.argmin(ink)), int(np.argmax(direction)))

    def test_samples_are_those_that_ship(self):
        with urllib.request.urlopen(self.url + "/page/digits.json") as answer:
            got = json.load(answer)
        self.assertEqual(got["images"], (self.rows[:20] * got["scale"]).astype(int).tolist())

    def test_more_features(self):
        self.sample(8)
        self.wait_row(self.rows[8])
        n = int(number(self.text("#l0 dd")))
        self.assertGreater(n, 12)
        self.click("#more")
        self.wait(lambda: len(self.all("#top li")) == n, "not all are shown")

    # ---- rows

    def test_pasted_rows(self):
        self.click("#tab-rows")
        self.find("#text").send_keys(json.dumps(self.rows[5].tolist()))
        self.click("#use-text")
        self.wait_row(self.rows[5])
        self.assertFalse(self.find("#which").is_displayed())
        self.find("#text").clear()
        self.find("#text").send_keys(json.dumps({"x": self.rows[6:8].tolist()}))
        self.click("#use-text")
        self.wait_row(self.rows[6])
        self.click("#next")
        self.wait_row(self.rows[7])
        self.wait_text("#file-figures", "2 rows: mean L0")
        for text, why in (("[1, 2, 3]", "a row has 3 numbers, this dictionary wants 64"), ("[1,", "cannot read"),
                          ("<b>1</b>", "cannot read"), ("[]", "want a list of numbers")):
            self.find("#text").clear()
            self.find("#text").send_keys(text)
            self.click("#use-text")
            self.wait_text("#alert", why)
        self.assertEqual(self.all("#alert b"), [])

    def judged(self):
        found = re.search(r"256 rows: mean L0 ([\d.]+), FVU ([\d.]+)", self.text("#file-figures"))
        return found and (float(found.group(1)), float(found.group(2)))

    def test_a_file_that_is_opened(self):
        """As f2, the file as it is; in Fortran order; what --check --sample says of it."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "fortran.npy")
            np.save(path, np.asfortranarray(self.rows.astype("f8")))
            for file in (NPY, path):
                self.find("#file").send_keys(file)
                self.wait(self.judged, "no figures")
                self.assertEqual(self.judged(), (12.75, 0.0485))
                self.wait_row(self.rows[0])
                row = self.find("#row")
                row.clear()
                row.send_keys("200", Keys.ENTER)
                self.wait_row(self.rows[200])
            np.save(path, self.rows[:, :32])
            self.find("#file").send_keys(path)
            self.wait_text("#alert", "its rows have 32 numbers, this dictionary wants 64")

    def test_a_file_that_is_dropped(self):
        with open(NPY, "rb") as file:
            data = list(file.read())
        self.script("""const drop = new DataTransfer();
            drop.items.add(new File([new Uint8Array(arguments[0])], "digits.npy"));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: drop, bubbles: true, cancelable: true }))""",
                    data)
        self.wait(self.judged, "no figures")
        self.assertEqual(self.judged(), (12.75, 0.0485))

    def test_rows_that_are_no_pictures(self):
        self.choose("wide")
        self.assertFalse(self.find("#tab-picture").is_displayed())
        self.click("#random")
        self.wait_text("#l0 dd", "of 4096")
        self.assertEqual(len(self.pixels("#x")), 768)
        self.wait(lambda: len(set(self.pixels("#top li:first-child canvas"))) > 4, "no direction")
        self.choose("id")
        self.find("#text").send_keys('[1, -2, 0, "NaN", "Infinity", 3]')
        self.click("#use-text")
        self.wait_text("#l0 dd", "5 of 6")
        values = sorted(self.text(f"#top li:nth-child({i}) .value") for i in range(1, 6))
        self.assertEqual(values, ["-2", "1", "3", "Infinity", "NaN"])

    def test_an_encoder_alone(self):
        self.choose("enc")
        self.sample(8)
        self.wait_row(self.rows[8])
        self.assertEqual(self.all("#x-hat, #left, #error"), [])
        self.assertFalse(self.find("#value").is_enabled())
        self.assertFalse(self.find("#direction").is_displayed())
        self.assertEqual(len(self.all("#top li .value")), 12)

    # ---- hands and eyes

    def test_keys_alone(self):
        self.find("body").send_keys(Keys.TAB)
        focused = lambda: self.script("return document.activeElement.id || document.activeElement.dataset.name || ''")
        self.assertEqual(self.script("return document.activeElement.className"), "skip")
        seen = []
        for _ in range(200):
            ActionChains(self.driver).send_keys(Keys.TAB).perform()
            seen.append(focused())
            self.assertNotEqual(self.script(
                "const e = document.activeElement; return e === document.body ? 'x' : getComputedStyle(e).outlineStyle"),
                "none", seen)
            if seen[-1] == "value":
                break
        for stop in ("digits", "wide", "tab-picture", "erase", "feature-id", "value"):
            self.assertIn(stop, seen)
        self.assertNotIn("tab-rows", seen)
        self.find("#tab-picture").send_keys(Keys.ARROW_RIGHT)
        self.assertEqual(focused(), "tab-rows")
        self.assertTrue(self.find("#text").is_displayed())

    def test_everything_has_a_name(self):
        """Chromium's own tree of what a screen reader is told."""
        self.click("#reading summary")
        nodes = self.cdp("Accessibility.getFullAXTree")["nodes"]
        wanted = {"button", "textbox", "slider", "tab", "img", "image", "spinbutton", "gridcell", "grid", "searchbox"}
        nameless = [n for n in nodes if not n.get("ignored") and n.get("role", {}).get("value") in wanted
                    and not n.get("name", {}).get("value")]
        self.assertEqual(nameless, [])
        self.assertGreater(len(nodes), 200)

    def test_the_address_names_the_dictionary(self):
        self.choose("wide")
        self.assertTrue(self.driver.current_url.endswith("/#wide"))
        self.driver.refresh()
        self.wait_text("#name", "wide")

    def test_shots(self):
        self.sample(9)
        ids, _ = self.wait_row(self.rows[9])
        self.click("#top li:nth-child(2) button")
        self.wait_text("#feature-title", f"Feature {ids[1]}")
        self.find("#value").send_keys(Keys.PAGE_UP, Keys.PAGE_UP)
        self.wait_text("#steered dd", "1 feature")
        self.find("#name").click()
        self.wait(lambda: "0 rows/s" not in self.text(".live-rate"), "no rows/s")
        self.shot("page")


class Words(Page):
    SERVED = ["words=" + WORDS + ":labels=" + WORDS.replace("safetensors", "labels.json"), "digits=" + DIGITS]
    HEIGHT = 1000

    def strongest(self, word):
        """The id and the label of the word's strongest feature."""
        with urllib.request.urlopen(self.url + "/page/words.json") as answer:
            words = json.load(answer)
        f = post(self.url, "words", "encode", {"x": words["rows"][words["words"].index(word)], "top_k": 1, "labels": True})["f"]
        return f["indices"][0][0], f["labels"][0][0]

    def test_a_word(self):
        self.wait_text("#name", "words")
        self.assertFalse(self.find("#tab-picture").is_displayed())
        self.wait_text("#top .label", "music")
        self.assertEqual(self.find("#top").get_attribute("class"), "bars")
        self.wait_text("#feature-title", "Feature 451: ")
        box = self.find("#word")
        box.clear()
        box.send_keys("Bread")
        first, label = self.strongest("bread")
        self.wait_text("#top .label", label)
        self.wait_text("#feature-title", f"Feature {first}: {label}")
        self.shot("words")
        before = self.pixels("#x-hat")
        self.click("#off")
        self.wait(lambda: self.pixels("#x-hat") != before, "x_hat stands still")
        self.find("#feature-id").clear()
        self.find("#feature-id").send_keys("0", Keys.ENTER)
        self.wait_text("#feature-title", "Feature 0: ring, rings, body")
        self.choose("digits")
        self.wait_text("#l0", "of 256")
        self.assertFalse(self.find("#tab-word").is_displayed())

    def test_labels_are_text(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "labels.json")
            with open(path, "w") as file:
                json.dump(["<img src=x onerror=alert(1)>"] * 6, file)
            with daemon("id=identity:6:labels=" + path) as url:
                self.visit(url + "/")
                self.find("#text").send_keys("[1, 2, 3, 4, 5, 6]")
                self.click("#use-text")
                self.wait_text("#feature-title", "Feature 5: <img src=x onerror=alert(1)>")
                self.assertEqual(self.all("#explorer img"), [])
                self.driver.get("about:blank")


class Offered(Page):
    SERVED = []

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        shutil.copy(DIGITS, cls.folder.name)
        cls.OPTIONS = ["--dictionaries", cls.folder.name]
        super().setUpClass()
        cls.stack.callback(cls.folder.cleanup)

    def test_one_that_is_loaded_when_it_is_asked(self):
        self.choose("digits")
        self.assertIn("offered", self.text('[data-name="digits"] .state'))
        self.assertFalse(self.find("#result").is_displayed())
        self.click("#samples button")
        self.wait_text("#l0", "of 256")
        self.wait(lambda: self.text('[data-name="digits"] .state') == "", "it is not ready")


class Lost(Page):
    def test_a_server_that_goes_and_comes_back(self):
        with daemon("digits=" + DIGITS) as url:
            self.visit(url + "/")
            self.wait_text("#l0", "of 256")
        self.wait_text("#alert", "cannot reach the server")
        self.click("#samples button:nth-child(5)")
        self.wait(lambda: self.find("#alert").is_displayed(), "no word of it")
        with daemon("--listen", urlsplit(url).netloc, "digits=" + DIGITS):
            self.wait(lambda: not self.find("#alert").is_displayed(), "it is not found again")
            self.click("#samples button:nth-child(6)")
            self.wait(lambda: self.find("#x").is_displayed(), "no row")
            self.allowed.append("ERR_CONNECTION_REFUSED")
            self.driver.get("about:blank")


class Dark(Page):
    IS_DARK, HEIGHT = True, 1000

    def test_colours(self):
        self.wait_text("#l0", "of 256")
        self.assertEqual(self.find("body").value_of_css_property("background-color"), "rgba(16, 19, 25, 1)")
        paper = tuple(bytes.fromhex("262c37"))
        self.assertEqual(self.pixels("#x")[0], paper)
        self.wait(lambda: len(set(self.pixels("#direction"))) > 4, "no direction")
        self.shot("dark")
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
        self.wait(lambda: self.pixels("#x")[0] == tuple(bytes.fromhex("eef0f4")), "it stays dark")


class Phone(Page):
    WIDTH, HEIGHT = 360, 740
    SERVED = ["digits=" + DIGITS, "a-dictionary-with-a-rather-long-name.of.a.path.that.has.no.blank=init:AutoEncoder:768:2048:l0=20"]

    def test_nothing_sticks_out(self):
        self.wait_text("#l0", "of 256")
        self.wait_text("#feature-title", "Feature")
        wide = self.script("""return [...document.querySelectorAll('body *')].filter(
            (e) => e.offsetParent && !e.closest('.skip, .sr, .button, pre') && e.getBoundingClientRect().right > 360)
            .map((e) => e.outerHTML.slice(0, 80))""")
        self.assertEqual(wide, [])
        self.assertLessEqual(self.script("return document.documentElement.scrollWidth"), 360)
        self.shot("phone")
        self.choose("a-dictionary-with-a-rather-long-name.of.a.path.that.has.no.blank")
        self.click("#random")
        self.wait_text("#l0", "of 2048")
        self.assertLessEqual(self.script("return document.documentElement.scrollWidth"), 360)

    def test_a_finger_draws(self):
        self.wait_text("#l0", "of 256")
        cell = self.all("#pad [role=gridcell]")[0]
        self.script("arguments[0].scrollIntoView({block: 'center'})", cell)
        cell.click()
        self.wait(lambda: "100 %" in cell.get_attribute("aria-label"), "no ink")


class Keyed(Page):
    def setUp(self):
        super().setUp()
        self.allowed += ["401 (Unauthorized)"]

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        path = os.path.join(cls.folder.name, "keys")
        with open(path, "w") as file:
            file.write("alice:" + KEY + "\n")
        cls.OPTIONS = ["--api-key-file", path]
        super().setUpClass()
        cls.stack.callback(cls.folder.cleanup)

    def enter(self, key):
        self.wait(lambda: self.find("#key-dialog").is_displayed(), "no key is asked for")
        self.find("#key").send_keys(key, Keys.ENTER)

    def test_a_key_is_asked_for_and_kept_in_memory_alone(self):
        self.enter("wrong-key-that-is-long-enough")
        self.wait_text("#key-why", "the one that was sent is not known")
        self.shot("key")
        self.enter(KEY)
        self.wait_text("#l0", "of 256")
        self.assertFalse(self.find("#key-dialog").is_displayed())
        self.assertEqual(self.find("#key").get_attribute("value"), "")
        self.assertEqual(self.script("return [document.cookie, localStorage.length, sessionStorage.length]"), ["", 0, 0])
        self.assertNotIn(KEY, self.driver.current_url)
        self.driver.refresh()
        self.enter(KEY)
        self.wait_text("#l0", "of 256")


class BehindAProxy(Page):
    def test_below_a_path(self):
        with proxy(self.url, "/user/me/proxy/8673/") as url:
            self.visit(url)
            self.wait_text("#l0", "of 256")
            self.click("#samples button:nth-child(5)")
            self.wait_text("#feature-title", "Feature")
            self.click("#off")
            self.wait_text("#steered", "1 feature")
            self.assertIn("/user/me/proxy/8673/v1/dictionaries/digits/encode", self.text("#curl-text"))
            _, asked = self.logs()
            self.assertEqual([], [u for u in asked if not u.startswith(url)])
            self.assertGreater(len(asked), 12)
            self.driver.get("about:blank")


if __name__ == "__main__":
    main()
