/* page.js - the page of GET /: what is served and how it does, and an explorer of one dictionary.
 *
 * It uses the public API alone, by relative URLs. dom.js makes elements, wire.js asks, meter.js reads
 * /metrics, input.js gives rows, explorer.js shows what they are made of, picture.js draws. */
import { byId, digits, make, seconds, setPairs, setText } from "./page/dom.js";
import { Explorer } from "./page/explorer.js";
import { Input } from "./page/input.js";
import { Meter } from "./page/meter.js";
import { Refusal, ask, askJson, judge, setKey } from "./page/wire.js";

const METRICS_MS = 2000;
const DICTIONARIES_MS = 10000;
const FILTERED_FROM = 9;
const LISTED = 200;

let dictionaries = [];
let listed = ""; /* the document that they are of */
let chosen = null; /* a name */
let isAsking = false; /* for a key */
let meter = new Meter();

/* ---- what goes wrong ----------------------------------------------------------------------------- */

/* An error, or text; "": nothing is wrong. */
function tell(error) {
  if (error instanceof Refusal && error.status === 401) return askForKey(error);
  const text = error instanceof Error ? error.message : error;
  byId("alert").hidden = !text;
  setText("alert", text);
}

let hasSentKey = false;

function askForKey(error) {
  setText("key-why", hasSentKey ? error.message : "This server answers those alone who have a key.");
  byId("alert").hidden = true;
  if (isAsking) return;
  isAsking = true;
  byId("key-dialog").showModal();
  byId("key").focus();
}

byId("key-form").addEventListener("submit", (e) => {
  e.preventDefault();
  setKey(byId("key").value.trim());
  byId("key").value = "";
  hasSentKey = true;
  byId("key-dialog").close();
  start();
});
/* Escape puts it off until the next look. */
byId("key-dialog").addEventListener("close", () => { isAsking = false; });

/* ---- dictionaries -------------------------------------------------------------------------------- */

const usual = { kind: "sae", input: "none", output: "none", centre: "none", select: "all", threshold: "none",
  score: "value", normalize_decoder: "as_stored", features: "all", skip: "none" };

/* What of a reading is not as with most. */
function inShort(reading) {
  const said = [reading.activation];
  for (const [field, value] of Object.entries(usual))
    if (typeof reading[field] === "string" && reading[field] !== value) said.push(field + " " + reading[field]);
  return said.join(", ");
}

const shape = (d) => d.activation_dim + " \u2192 " + d.dict_size + (d.output_dim !== d.activation_dim && d.output_dim ? " \u2192 " + d.output_dim : "");

function listItem(d) {
  const line = (cls, text) => make("span", { class: cls }, text);
  const known = d.activation_dim !== null;
  return make("li", {}, make("button", { "data-name": d.name, "aria-pressed": d.name === chosen, disabled: known ? false : "", click: () => choose(d.name) },
    line("name", d.name), d.state === "ready" ? "" : line("state " + d.state, d.state),
    line("shape", known ? shape(d) : "not known"), line("quiet", known ? d.dict_class + ", " + d.dtype : d.reason || ""),
    known ? line("quiet", inShort(d.reading)) : "", make("span", { class: "live" })));
}

function showDictionaries() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const found = dictionaries.filter((d) => d.name.toLowerCase().includes(wanted)), focused = document.activeElement.dataset.name;
  byId("filter-label").hidden = dictionaries.length < FILTERED_FROM;
  byId("dictionaries").replaceChildren(...found.slice(0, LISTED).map(listItem));
  setText("n-left-out", found.length > LISTED ? "and " + (found.length - LISTED) + " more" : dictionaries.length ? "" : "None is served.");
  for (const button of byId("dictionaries").querySelectorAll("button"))
    if (button.dataset.name === focused) button.focus();
  showMeter();
}

function pairsOf(d) {
  const reading = Object.entries(d.reading).filter(([, v]) => typeof v === "string");
  const norm = d.decoder_norm, pairs = [["source", d.source], ["format", d.format], ["dtype", d.dtype], ["parts", d.parts], ...reading];
  if (norm) pairs.push(["decoder norms", digits(norm.min) + " to " + digits(norm.max) + ", median " + digits(norm.median)]);
  if (d.weights_sha256) pairs.push(["weights_sha256", d.weights_sha256]);
  for (const note of d.reading.notes) pairs.push(["note", note]);
  return pairs;
}

async function choose(name) {
  const d = dictionaries.find((one) => one.name === name);
  if (!d || d.activation_dim === null) return;
  chosen = name;
  history.replaceState(null, "", "#" + encodeURIComponent(name));
  for (const button of byId("dictionaries").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.name === name);
  byId("explorer").hidden = false;
  setText("name", d.name);
  setText("summary", d.dict_class + " \u00b7 " + shape(d) + " \u00b7 " + inShort(d.reading));
  setPairs(byId("reading-list"), pairsOf(d));
  tell("");
  explorer.use(d);
  try {
    await input.use(d);
  } catch (e) {
    tell(e);
  }
}

/* ---- how it does --------------------------------------------------------------------------------- */

const old = (h) => h.isOld ? { class: "old", title: "since the start: nothing has come of late" } : {};

function showMeter() {
  if (!meter.hasLooked) return;
  const all = meter.histogram("saed_request_seconds", "");
  setPairs(byId("service"), [
    ["requests/s", digits(meter.rate("saed_request_seconds_count|"), 3), { id: "requests" }],
    ["p50", seconds(all.p50), { ...old(all), id: "p50" }],
    ["p99", seconds(all.p99), { ...old(all), id: "p99" }],
  ]);
  for (const button of byId("dictionaries").querySelectorAll("button")) {
    const name = button.dataset.name, rows = meter.histogram("saed_batch_rows", name), time = meter.histogram("saed_compute_seconds", name);
    const figure = (cls, text, h) => make("span", { class: "live-" + cls, ...old(h) }, text);
    button.lastElementChild.replaceChildren(
      figure("rate", digits(meter.rate("saed_rows_total|" + name), 3) + " rows/s", { isOld: false }),
      figure("batch", (Number.isFinite(rows.mean) ? digits(rows.mean, 3) : "\u2013") + " a batch", rows),
      figure("p50", "p50 " + seconds(time.p50), time), figure("p99", "p99 " + seconds(time.p99), time));
  }
}

async function lookAtMetrics() {
  if (document.hidden || isAsking) return;
  try {
    meter.add(await (await ask("metrics")).text(), performance.now());
    meter.hasLooked = true;
    if (document.body.classList.contains("lost")) tell("");
    document.body.classList.remove("lost");
    showMeter();
  } catch (e) {
    document.body.classList.add("lost");
    tell(e);
  }
}

async function lookAtDictionaries() {
  if (document.hidden || isAsking) return;
  try {
    const text = await (await ask("v1/dictionaries")).text();
    if (text === listed) return;
    listed = text;
    dictionaries = JSON.parse(text).dictionaries;
    showDictionaries();
  } catch (e) {
    tell(e);
  }
}

/* ---- start --------------------------------------------------------------------------------------- */

const explorer = new Explorer({ onError: tell, onDone: onRowShown });
const input = new Input({
  onRow: (x) => explorer.show(x, input.isPicture),
  onFile: judgeFile,
  onError: tell,
});

function onRowShown() {
  lookAtMetrics();
  if (dictionaries.some((d) => d.name === chosen && d.state !== "ready")) lookAtDictionaries();
}

async function judgeFile(file, rows) {
  const info = explorer.info, n = rows.length / info.activation_dim;
  try {
    const { l0, fvu } = await judge(info, file, rows);
    if (info === explorer.info)
      setText("file-figures", n + " rows: mean L0 " + digits(l0, 4) + (Number.isFinite(fvu) ? ", FVU " + digits(fvu) : ""));
  } catch (e) {
    tell(e);
  }
}

function nameInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

async function start() {
  try {
    const about = await askJson("v1");
    setText("about", about.version + " \u00b7 " + about.engine + ", " + about.kernel + " \u00b7 " + about.threads + (about.threads === 1 ? " thread" : " threads"));
    tell("");
    await lookAtMetrics();
    await lookAtDictionaries();
  } catch (e) {
    return tell(e);
  }
  const named = nameInAddress(), first = dictionaries.find((d) => d.state === "ready");
  if (!chosen && dictionaries.some((d) => d.name === named)) choose(named);
  else if (!chosen && first) choose(first.name);
}

byId("filter").addEventListener("input", showDictionaries);
document.addEventListener("visibilitychange", lookAtMetrics);
setInterval(lookAtMetrics, METRICS_MS);
setInterval(lookAtDictionaries, DICTIONARIES_MS);
start();
