/* meter.js - /metrics as figures: rates and quantiles of the last ten seconds, or since the start where
 * nothing has come in them. */

const WINDOW_MS = 10000;
const LINE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/* [{name, labels, value}] */
function parse(text) {
  const series = [];
  for (const line of text.split("\n")) {
    const found = line[0] === "#" ? null : LINE.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] || "").matchAll(LABEL)) labels[name] = value;
    series.push({ name: found[1], labels, value: Number(found[3].replace("Inf", "Infinity")) });
  }
  return series;
}

/* Sums of what the page shows, by "NAME|dictionary" (of requests: all that compute); histograms as maps
 * of bucket to count. */
function digest(series) {
  const sums = new Map(), buckets = new Map();
  for (const { name, labels, value } of series) {
    if (labels.op === "other") continue;
    const of = (name.startsWith("saed_request") ? "" : labels.dictionary || "");
    if (name.endsWith("_bucket")) {
      const key = name.slice(0, -7) + "|" + of, map = buckets.get(key) || buckets.set(key, new Map()).get(key);
      map.set(labels.le, (map.get(labels.le) || 0) + value);
    } else {
      sums.set(name + "|" + of, (sums.get(name + "|" + of) || 0) + value);
    }
  }
  return { sums, buckets };
}

/* The value below which a share q of a histogram lies, straight within its bucket. */
function quantile(q, now, before) {
  const edges = [...now.keys()].map((le) => [le === "+Inf" ? Infinity : Number(le), now.get(le) - (before ? before.get(le) || 0 : 0)]);
  edges.sort((a, b) => a[0] - b[0]);
  const total = edges.length ? edges[edges.length - 1][1] : 0;
  let low = 0, below = 0;
  if (total <= 0) return NaN;
  for (const [edge, count] of edges) {
    if (count >= q * total) return edge === Infinity ? low : low + (edge - low) * (q * total - below) / Math.max(1e-12, count - below);
    low = edge;
    below = count;
  }
  return low;
}

export class Meter {
  #looks = [];

  add(text, now) {
    this.#looks.push({ at: now, ...digest(parse(text)) });
    while (this.#looks.length > 2 && this.#looks[1].at <= now - WINDOW_MS) this.#looks.shift();
  }

  #difference(key) {
    const last = this.#looks[this.#looks.length - 1], first = this.#looks[0];
    return (last.sums.get(key) || 0) - (first.sums.get(key) || 0);
  }

  rate(key) {
    const seconds = (this.#looks[this.#looks.length - 1].at - this.#looks[0].at) / 1000;
    return seconds > 0 ? Math.max(0, this.#difference(key)) / seconds : 0;
  }

  last(key) {
    return this.#looks[this.#looks.length - 1].sums.get(key) || 0;
  }

  /* {p50, p99, mean, isOld} of a histogram; isOld: of all since the start. */
  histogram(name, of) {
    const key = name + "|" + of, last = this.#looks[this.#looks.length - 1], first = this.#looks[0];
    const isOld = this.#difference(name + "_count|" + of) <= 0;
    const before = isOld ? null : first.buckets.get(key), now = last.buckets.get(key) || new Map();
    const sum = isOld ? this.last(name + "_sum|" + of) : this.#difference(name + "_sum|" + of);
    const count = isOld ? this.last(name + "_count|" + of) : this.#difference(name + "_count|" + of);
    return { p50: quantile(0.5, now, before), p99: quantile(0.99, now, before), mean: count ? sum / count : NaN, isOld };
  }
}
