/* explorer.js - one row through one dictionary: its features, its reconstruction, and what a feature does.
 *
 * Explorer.use(info) takes a dictionary, show(x) a row of it. Values that the slider sets are kept in
 * `edits` until another row comes; x_hat is decode of the features with them. Answers to what is no
 * longer asked are dropped: `turn` counts rows. */
import { byId, digits, make, percent, setPairs, setText } from "./dom.js";
import { decode, directions, encode, encodeQuery, encoderRow, hasDecoder, labelOf } from "./wire.js";
import { largest, paint } from "./picture.js";

const SHOWN = 12;
const cosine = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0) / Math.sqrt(norm2(a) * norm2(b));
const norm2 = (v) => v.reduce((sum, a) => sum + a * a, 0);

export class Explorer {
  info = null;
  #turn = 0;
  #x = null;
  #entries = [];
  #state = undefined;
  #hat = null;
  #edits = new Map();
  #shown = SHOWN;
  #feature = -1;
  #isPicked = false;
  #encoder = new Float32Array(0); /* these two: the feature's */
  #label = "";
  #directions = new Map(); /* id -> Float32Array */
  #decoding = false;
  #stale = false;

  constructor({ onError, onDone }) {
    Object.assign(this, { onError, onDone });
    byId("more").addEventListener("click", () => { this.#shown *= 4; this.#showTop().catch(this.onError); });
    byId("value").addEventListener("input", () => this.#edit(Number(byId("value").value)));
    byId("off").addEventListener("click", () => this.#edit(0));
    byId("reset").addEventListener("click", () => this.#edit(null));
    byId("reset-all").addEventListener("click", () => { this.#edits.clear(); this.#changed(); });
    byId("feature-id").addEventListener("change", () => this.choose(Number(byId("feature-id").value)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#repaint());
  }

  use(info) {
    this.info = info;
    this.#turn++;
    this.#x = null;
    this.#feature = -1;
    this.#isPicked = false;
    this.#directions.clear();
    for (const id of ["result", "feature", "curl"]) byId(id).hidden = true;
    byId("feature-id").max = info.dict_size - 1;
  }

  /* isPicture: its numbers, and those of directions, lie in a square. */
  async show(x, isPicture) {
    const turn = ++this.#turn, info = this.info;
    this.isPicture = isPicture;
    try {
      const { entries, state } = await encode(info, x);
      const hat = hasDecoder(info) ? await decode(info, entries, state, x) : null;
      if (turn !== this.#turn) return;
      this.#x = Float32Array.from(x);
      this.#entries = entries;
      this.#state = state;
      this.#hat = hat;
      this.#edits.clear();
      this.#shown = SHOWN;
      this.onError("");
      this.#showResult();
      await this.#showTop();
      if (turn === this.#turn) this.#follow(this.#isPicked || entries.length === 0 ? Math.max(0, this.#feature) : entries[0].id);
      this.onDone();
    } catch (e) {
      if (turn === this.#turn) this.onError(e);
    }
  }

  /* ---- the row -------------------------------------------------------------------------------- */

  #compares() {
    return this.#hat && this.info.reading.kind === "sae" && this.#hat.length === this.#x.length;
  }

  #showResult() {
    byId("result").hidden = false;
    this.#showPictures();
    this.#showFigures();
    this.#showCurl();
  }

  #showPictures() {
    const most = largest(this.#x) || 1, list = [["x", this.#x, "x, the row", most]];
    if (this.#hat)
      list.push(["x-hat", this.#hat, this.#edits.size ? "x\u0302, steered" : "x\u0302, reconstructed", this.#compares() ? most : undefined]);
    if (this.#compares()) list.push(["left", this.#x.map((v, i) => v - this.#hat[i]), "x \u2212 x\u0302, left over", most]);
    const holder = byId("pictures");
    if (holder.children.length !== list.length)
      holder.replaceChildren(...list.map(([id]) => make("figure", {}, make("canvas", { id, role: "img" }), make("figcaption"))));
    list.forEach(([id, v, caption, scale], i) => {
      const [canvas, text] = holder.children[i].children;
      canvas.id = id;
      canvas.setAttribute("aria-label", caption + ": " + v.length + " numbers, the largest " + digits(largest(v)));
      paint(canvas, v, this.isPicture, scale);
      text.textContent = caption;
    });
  }

  #showFigures() {
    const now = this.#edited(), pairs = [["L0", now.length + " of " + this.info.dict_size, { title: "features that are on", id: "l0" }]];
    if (this.#compares()) {
      const left = this.#x.map((v, i) => v - this.#hat[i]), size = norm2(this.#x);
      pairs.push(["error", size > 0 ? percent(norm2(left) / size) : "\u2013", { title: "|x - x_hat|\u00b2 / |x|\u00b2", id: "error" }]);
      pairs.push(["|x|", digits(Math.sqrt(size)), {}]);
    }
    if (this.#edits.size) pairs.push(["steered", this.#edits.size === 1 ? "1 feature" : this.#edits.size + " features", { id: "steered" }]);
    setPairs(byId("figures"), pairs);
  }

  #showCurl() {
    const url = new URL("v1/dictionaries/" + encodeURIComponent(this.info.name) + "/encode?", document.baseURI);
    const query = encodeQuery(this.info), x = Array.from(this.#x, (v) => Number.isFinite(v) ? Number(v.toPrecision(6)) : String(v));
    delete query.sparse;
    url.search = new URLSearchParams({ ...query, top_k: SHOWN });
    byId("curl").hidden = false;
    setText("curl-text", "curl -s --json '" + JSON.stringify({ x }) + "' \\\n  '" + url + "'");
  }

  /* ---- its features --------------------------------------------------------------------------- */

  /* The features that are on, with what the slider says. */
  #edited() {
    const now = this.#entries.map((e) => this.#edits.has(e.id) ? { ...e, value: this.#edits.get(e.id) } : e);
    for (const [id, value] of this.#edits)
      if (!this.#entries.some((e) => e.id === id)) now.push({ id, value, label: "" });
    return now.filter((e) => e.value !== 0);
  }

  #valueOf(id) {
    const entry = this.#entries.find((e) => e.id === id);
    return this.#edits.has(id) ? this.#edits.get(id) : entry ? entry.value : 0;
  }

  async #showTop() {
    const turn = this.#turn, top = this.#entries.slice(0, this.#shown), isTiled = this.#isTiled();
    const most = top.reduce((m, e) => Math.max(m, Math.abs(e.value)), 0) || 1;
    setText("top-title", top.length === 0 ? "No feature is on" : top.length === 1 ? "The only feature that is on" :
      top.length < this.#entries.length ? "The " + top.length + " strongest features" : "All " + top.length + " features that are on");
    byId("more").hidden = top.length >= this.#entries.length;
    byId("top").className = isTiled ? "tiles" : "bars";
    byId("top").replaceChildren(...top.map((e) => make("li", {}, this.#tile(e, most, isTiled))));
    this.#markChosen();
    if (!isTiled) return;
    await this.#fetchDirections(top.map((e) => e.id));
    if (turn === this.#turn) this.#paintTiles();
  }

  #isTiled() {
    return hasDecoder(this.info) && !this.#entries.some((e) => e.label);
  }

  #tile(entry, most, isTiled) {
    const bar = make("span", { class: "bar" });
    bar.style.setProperty("--share", Math.round(100 * Math.abs(entry.value) / most) + "%");
    const parts = isTiled ? [make("canvas")] : [];
    parts.push(make("span", { class: "id" }, "#" + entry.id));
    if (entry.label) parts.push(make("span", { class: "label" }, entry.label));
    parts.push(make("span", { class: "value" }, digits(entry.value)), bar);
    return make("button", { "data-id": entry.id, click: () => this.choose(entry.id) }, ...parts);
  }

  async #fetchDirections(ids) {
    const wanted = ids.filter((id) => !this.#directions.has(id)), info = this.info;
    if (wanted.length === 0) return;
    const found = await directions(info, wanted);
    if (info === this.info) wanted.forEach((id, i) => this.#directions.set(id, found[i]));
  }

  #paintTiles() {
    for (const button of byId("top").querySelectorAll("button")) {
      const v = this.#directions.get(Number(button.dataset.id));
      if (v && button.firstChild.tagName === "CANVAS") paint(button.firstChild, v, this.isPicture);
    }
  }

  #markChosen() {
    for (const button of byId("top").querySelectorAll("button"))
      button.setAttribute("aria-pressed", Number(button.dataset.id) === this.#feature);
  }

  /* ---- one feature ---------------------------------------------------------------------------- */

  /* One that was picked stays when another row comes, else the strongest is shown. */
  choose(id) {
    this.#isPicked = true;
    return this.#follow(id);
  }

  async #follow(id) {
    const turn = this.#turn;
    if (!(id >= 0 && id < this.info.dict_size)) return;
    this.#feature = Math.floor(id);
    byId("feature").hidden = false;
    byId("feature-id").value = this.#feature;
    this.#markChosen();
    this.#showSlider();
    try {
      const info = this.info, [encoder, label] = await Promise.all([encoderRow(info, this.#feature), labelOf(info, this.#feature),
        hasDecoder(info) ? this.#fetchDirections([this.#feature]) : null]);
      if (turn !== this.#turn || this.#feature !== Math.floor(id)) return;
      this.#encoder = encoder;
      this.#label = label;
      this.#showFeature();
    } catch (e) {
      if (turn === this.#turn) this.onError(e);
    }
  }

  #showFeature() {
    const entry = this.#entries.find((e) => e.id === this.#feature);
    const v = this.#directions.get(this.#feature), canvas = byId("direction"), pairs = [];
    setText("feature-title", "Feature " + this.#feature + (this.#label ? ": " + this.#label : ""));
    canvas.parentElement.hidden = !v;
    pairs.push(["as encoded", entry ? digits(entry.value) : "off"]);
    if (v) {
      paint(canvas, v, this.isPicture);
      canvas.setAttribute("aria-label", "decoder direction of feature " + this.#feature + ": " + v.length + " numbers from " +
        digits(Math.min(...v)) + " to " + digits(Math.max(...v)));
      pairs.push(["decoder norm", digits(Math.sqrt(norm2(v)), 4), { id: "decoder-norm" }], ["smallest", digits(Math.min(...v))],
        ["largest", digits(Math.max(...v))]);
    }
    pairs.push(["encoder norm", digits(Math.sqrt(norm2(this.#encoder)), 4), { id: "encoder-norm" }]);
    if (v && v.length === this.#encoder.length)
      pairs.push(["their cosine", digits(cosine(v, this.#encoder)), { id: "cosine", title: "of encoder and decoder rows" }]);
    setPairs(byId("feature-figures"), pairs);
  }

  #showSlider() {
    const value = this.#valueOf(this.#feature), slider = byId("value"), entry = this.#entries.find((e) => e.id === this.#feature);
    const strongest = this.#entries.reduce((m, e) => Math.max(m, Math.abs(e.value)), 0) || 1;
    const most = 2 * Math.max(strongest, Math.abs(entry ? entry.value : 0));
    slider.disabled = !hasDecoder(this.info);
    slider.min = this.#entries.some((e) => e.value < 0) ? -most : 0;
    slider.max = most;
    slider.step = most / 400;
    slider.value = value;
    this.#showValue(value);
  }

  #showValue(value) {
    byId("value-text").value = digits(value);
    byId("value").setAttribute("aria-valuetext", digits(value));
    byId("reset").disabled = !this.#edits.has(this.#feature);
    byId("off").disabled = value === 0 || !hasDecoder(this.info);
    byId("reset-all").hidden = this.#edits.size < 2;
  }

  /* value null: as it was encoded. */
  #edit(value) {
    if (value === null) this.#edits.delete(this.#feature);
    else this.#edits.set(this.#feature, value);
    this.#changed(value);
  }

  #changed(value = null) {
    if (value === null || Number(byId("value").value) !== value) this.#showSlider();
    this.#showValue(this.#valueOf(this.#feature));
    this.#showFeature();
    this.#showFigures();
    this.#steer();
  }

  /* One decode at a time: while it is away the slider may move on. */
  async #steer() {
    const turn = this.#turn;
    this.#stale = true;
    if (this.#decoding) return;
    this.#decoding = true;
    try {
      while (this.#stale && turn === this.#turn) {
        this.#stale = false;
        const hat = await decode(this.info, this.#edited(), this.#state, this.#x);
        if (turn !== this.#turn) break;
        this.#hat = hat;
        this.#showPictures();
        this.#showFigures();
      }
    } catch (e) {
      if (turn === this.#turn) this.onError(e);
    } finally {
      this.#decoding = false;
    }
  }

  #repaint() {
    if (!this.#x) return;
    this.#showPictures();
    this.#paintTiles();
    this.#showFeature();
  }
}
