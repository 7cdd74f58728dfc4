/* input.js - where a row comes from: a digit that is picked or drawn, a word, pasted or dropped rows.
 *
 * Input shows the ways that a dictionary has and calls onRow(x) with a Float32Array for each row
 * that is chosen, onFile(file, rows) for rows that came as a file, onError(text). */
import { arrows, byId, make, setText } from "./dom.js";
import { askJson, rowsOfJson, rowsOfNpy } from "./wire.js";
import { paint, side } from "./picture.js";

/* Rows of a file that are looked at. */
const MAX_ROWS = 4096;
const N_CHIPS = 24;

/* The grid that is drawn on: cells of 0 to 1, one of which is a stop of Tab. */
class Pad {
  #cells = [];
  #side = 0;
  #at = 0;
  #ink = null; /* while the pointer is down: what it leaves */

  constructor(element, onChange) {
    this.element = element;
    this.onChange = onChange;
    this.x = new Float32Array(0);
    element.addEventListener("keydown", (e) => this.#key(e));
    element.addEventListener("pointerdown", (e) => this.#down(e));
    element.addEventListener("pointermove", (e) => this.#move(e));
    for (const end of ["pointerup", "pointercancel"]) element.addEventListener(end, () => { this.#ink = null; });
  }

  resize(s) {
    if (s === this.#side) return;
    this.#side = s;
    this.#at = 0;
    this.x = new Float32Array(s * s);
    this.#cells = Array.from(this.x, (_, i) => make("div", { role: "gridcell", tabindex: i ? -1 : 0 }));
    this.element.style.setProperty("--side", s);
    const rows = Array.from({ length: s }, (_, r) =>
      make("div", { role: "row" }, ...this.#cells.slice(r * s, (r + 1) * s)));
    this.element.replaceChildren(...rows);
  }

  set(x) {
    this.x = Float32Array.from(x);
    this.#cells.forEach((_, i) => this.#show(i));
  }

  #show(i) {
    const ink = Math.max(0, Math.min(1, this.x[i]));
    this.#cells[i].style.setProperty("--ink", Math.round(100 * ink) + "%");
    this.#cells[i].setAttribute("aria-label",
      "row " + (1 + Math.floor(i / this.#side)) + ", column " + (1 + i % this.#side) + ", ink " + Math.round(100 * ink) + " %");
  }

  #put(i, ink) {
    if (this.x[i] === ink) return;
    this.x[i] = ink;
    this.#show(i);
    this.onChange();
  }

  #focus(i) {
    this.#cells[this.#at].tabIndex = -1;
    this.#at = i;
    this.#cells[i].tabIndex = 0;
    this.#cells[i].focus();
  }

  #key(e) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[e.key];
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (step) this.#step(...step);
    else if (e.key === " " || e.key === "Enter") this.#put(this.#at, this.x[this.#at] > 0.5 ? 0 : 1);
    else if (e.key === "Delete" || e.key === "Backspace") this.#put(this.#at, 0);
    else return;
    e.preventDefault();
  }

  #step(down, right) {
    const s = this.#side, row = Math.floor(this.#at / s) + down, column = this.#at % s + right;
    if (row >= 0 && row < s && column >= 0 && column < s) this.#focus(row * s + column);
  }

  #cellAt(e) {
    return this.#cells.indexOf(document.elementFromPoint(e.clientX, e.clientY));
  }

  #down(e) {
    const i = this.#cellAt(e);
    if (i < 0) return;
    this.element.setPointerCapture(e.pointerId);
    this.#ink = this.isErasing || e.button === 2 ? 0 : 1;
    this.#focus(i);
    this.#put(i, this.#ink);
    e.preventDefault();
  }

  #move(e) {
    const i = this.#ink === null ? -1 : this.#cellAt(e);
    if (i < 0) return;
    this.#focus(i);
    this.#put(i, this.#ink);
  }
}

export class Input {
  #info = null;
  #rows = null;
  #n = 0;
  #words = null;

  constructor({ onRow, onFile, onError }) {
    Object.assign(this, { onRow, onFile, onError });
    this.pad = new Pad(byId("pad"), () => this.onRow(this.pad.x));
    this.tabs = ["picture", "word", "rows"].map((name) => byId("tab-" + name));
    this.tabs.forEach((tab) => tab.addEventListener("click", () => this.#choose(tab)));
    byId("tabs").addEventListener("keydown", (e) => this.#tabKey(e));
    byId("clear").addEventListener("click", () => this.#picture(new Float32Array(this.pad.x.length)));
    byId("erase").addEventListener("click", () => this.#erase());
    byId("use-text").addEventListener("click", () => this.#text(byId("text").value));
    byId("random").addEventListener("click", () => this.#random());
    byId("file").addEventListener("change", (e) => { this.open(e.target.files[0]); e.target.value = ""; });
    byId("word").addEventListener("input", () => this.#word(byId("word").value));
    byId("previous").addEventListener("click", () => this.#row(Number(byId("row").value) - 1));
    byId("next").addEventListener("click", () => this.#row(Number(byId("row").value) + 1));
    byId("row").addEventListener("change", () => this.#row(Number(byId("row").value)));
    this.#listenToDrops();
  }

  /* Show the ways to a row of this dictionary. */
  async use(info) {
    const hasLabels = info.options.includes("labels"), mayBeWords = hasLabels || info.name === "words";
    this.#info = info;
    this.#forget();
    const hasWords = mayBeWords && await this.#hasWords(info), s = hasLabels || hasWords ? 0 : side(info.activation_dim);
    if (this.#info !== info) return;
    this.isPicture = s > 0;
    if (s) this.pad.resize(s);
    const ways = { picture: s > 0, word: hasWords, rows: true };
    this.tabs.forEach((tab) => { tab.hidden = !ways[tab.id.slice(4)]; });
    this.#choose(this.tabs.find((tab) => !tab.hidden));
    if (s) await this.#samples();
    if (this.#info !== info || info.state !== "ready") return;
    if (s) this.#first(byId("samples"));
    else if (ways.word) this.#first(byId("some-words"));
  }

  #first(group) {
    if (group.firstElementChild) group.firstElementChild.click();
  }

  #choose(tab) {
    for (const t of this.tabs) {
      t.setAttribute("aria-selected", t === tab);
      t.tabIndex = t === tab ? 0 : -1;
      byId(t.getAttribute("aria-controls")).hidden = t !== tab;
    }
  }

  #tabKey(e) {
    const shown = this.tabs.filter((t) => !t.hidden), to = arrows(e, shown, shown.indexOf(document.activeElement));
    if (to < 0) return;
    this.#choose(shown[to]);
    shown[to].focus();
  }

  /* ---- pictures ---- */

  async #samples() {
    const group = byId("samples");
    group.hidden = this.#info.activation_dim !== 64;
    if (group.hidden || group.firstElementChild) return;
    const { scale, images } = await askJson("page/digits.json");
    group.replaceChildren(...images.map((image, i) => {
      const x = Float32Array.from(image, (v) => v / scale), canvas = make("canvas");
      paint(canvas, x, true, 1);
      return make("button", { class: "sample", "aria-label": "digit " + i % 10, click: () => this.#picture(x) }, canvas);
    }));
  }

  #picture(x) {
    this.#forget();
    this.pad.set(x);
    this.onRow(this.pad.x);
  }

  #erase() {
    this.pad.isErasing = !this.pad.isErasing;
    byId("erase").setAttribute("aria-pressed", this.pad.isErasing);
  }

  /* ---- words ---- */

  /* Are there any of this width? */
  async #hasWords(info) {
    if (!this.#words) {
      const { words, rows } = await askJson("page/words.json").catch(() => ({ words: [], rows: [] }));
      this.#words = new Map(words.map((word, i) => [word, rows[i]]));
      byId("words").replaceChildren(...words.map((word) => make("option", { value: word })));
      byId("some-words").replaceChildren(...words.slice(0, N_CHIPS).map((word) =>
        make("button", { click: () => { byId("word").value = word; this.#word(word); } }, word)));
    }
    const [row] = this.#words.values();
    return row !== undefined && row.length === info.activation_dim;
  }

  #word(word) {
    const row = this.#words.get(word.trim().toLowerCase());
    if (!row) return;
    this.#forget();
    this.onRow(Float32Array.from(row));
  }

  /* ---- rows ---- */

  #forget() {
    this.#rows = null;
    byId("which").hidden = true;
    setText("file-figures", "");
  }

  #several(rows, n) {
    const d = this.#info.activation_dim;
    this.#rows = rows;
    this.#n = n;
    byId("which").hidden = n < 2;
    setText("file-figures", "");
    setText("n-rows", "of " + n);
    byId("row").max = n - 1;
    if (rows.length >= d) this.#row(0);
  }

  #row(i) {
    const d = this.#info.activation_dim, at = Math.max(0, Math.min(this.#n - 1, Math.floor(i) || 0));
    if (!this.#rows) return;
    byId("row").value = at;
    byId("previous").disabled = at === 0;
    byId("next").disabled = at === this.#n - 1;
    const x = this.#rows.slice(at * d, (at + 1) * d);
    if (this.isPicture) this.pad.set(x);
    this.onRow(x);
  }

  #random() {
    const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    this.#several(Float32Array.from({ length: this.#info.activation_dim }, normal), 1);
  }

  #text(text) {
    const d = this.#info.activation_dim;
    try {
      const rows = rowsOfJson(text, d);
      this.#several(rows, rows.length / d);
      this.onError("");
      if (rows.length > d) this.onFile({ body: JSON.stringify({ x: JSON.parse(text).x || JSON.parse(text) }), type: "application/json" }, rows);
    } catch (e) {
      this.onError("cannot read these rows: " + e.message);
    }
  }

  /* A file that was dropped or opened. */
  async open(file) {
    if (!file || !this.#info) return;
    const buffer = await file.arrayBuffer();
    this.#choose(byId("tab-rows"));
    if (new Uint8Array(buffer, 0, Math.min(1, buffer.byteLength))[0] !== 0x93) return this.#text(new TextDecoder().decode(buffer));
    try {
      const { rows, width, n } = rowsOfNpy(buffer), d = this.#info.activation_dim;
      if (width !== d) throw new Error("its rows have " + width + " numbers, this dictionary wants " + d);
      if (n > MAX_ROWS) throw new Error("it has " + n + " rows, the page takes " + MAX_ROWS);
      this.#several(rows, n);
      this.onError("");
      this.onFile({ body: buffer, type: "application/x-npy" }, rows);
    } catch (e) {
      this.onError("cannot read " + file.name + ": " + e.message);
    }
  }

  #listenToDrops() {
    document.addEventListener("dragover", (e) => { e.preventDefault(); document.body.classList.add("dropping"); });
    document.addEventListener("dragleave", (e) => { if (!e.relatedTarget) document.body.classList.remove("dropping"); });
    document.addEventListener("drop", (e) => {
      e.preventDefault();
      document.body.classList.remove("dropping");
      this.open(e.dataTransfer.files[0]);
    });
  }
}
