/* wire.js - the public API, by relative URLs, and the forms that rows come in. */

/* In this page's memory alone: not in storage, not in a URL. */
let key = "";

export function setKey(text) {
  key = text;
}

/* What the server has refused, in its own words; status 0: it was not reached. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || "status " + status);
    this.status = status;
    this.code = problem.code;
  }
}

export async function ask(path, options = {}) {
  const headers = { ...options.headers };
  let answer;
  if (key) headers.Authorization = "Bearer " + key;
  try {
    answer = await fetch(path, { ...options, headers, redirect: "error", referrerPolicy: "no-referrer" });
  } catch (e) {
    throw new Refusal(0, { detail: "cannot reach the server: " + e.message });
  }
  if (answer.ok) return answer;
  throw new Refusal(answer.status, await answer.json().catch(() => ({})));
}

export const askJson = async (path, options) => (await ask(path, options)).json();

const operation = (name, op, query) =>
  "v1/dictionaries/" + encodeURIComponent(name) + "/" + op + (query ? "?" + new URLSearchParams(query) : "");

/* JSON has no NaN: these travel as strings. */
const sayable = (v) => Number.isFinite(v) ? v : String(v);

/* ---- operations ---------------------------------------------------------------------------------- */

export const hasDecoder = (info) => info.parts !== "encoder";

/* Which options an encode of this dictionary has. */
export function encodeQuery(info) {
  const query = { sparse: "true" };
  for (const option of ["labels", "input_state"])
    if (info.options.includes(option)) query[option] = "true";
  return query;
}

/* The features of one row that are on, strongest first: [{id, value, label}], and the row's own
 * numbers that decode wants back. */
export async function encode(info, x) {
  const answer = await askJson(operation(info.name, "encode", encodeQuery(info)), {
    method: "POST", body: x,
    headers: { "Content-Type": "application/octet-stream", "Saed-Shape": String(x.length), Accept: "application/json" },
  });
  const f = answer.f, labels = f.labels ? f.labels[0] : [];
  const entries = f.indices[0].map((id, i) => ({ id, value: Number(f.values[0][i]), label: labels[i] || "" }));
  entries.sort((a, b) => b.value - a.value || a.id - b.id);
  return { entries, state: answer.input_state };
}

async function floats(answer) {
  return new Float32Array(await answer.arrayBuffer());
}

const postJson = (path, body) => ask(path, {
  method: "POST", body: JSON.stringify(body),
  headers: { "Content-Type": "application/json", Accept: "application/octet-stream" },
});

/* What decode wants beside f: the row's own numbers, and x where there is a skip. */
function companions(info, state, x) {
  const more = {};
  if (state) more.input_state = state;
  if (info.reading.skip !== "none") more.x = Array.from(x, sayable);
  return more;
}

/* x_hat of features [{id, value}]. */
export async function decode(info, entries, state, x) {
  const on = entries.filter((e) => e.value !== 0);
  const f = { shape: [info.dict_size], indices: on.map((e) => e.id), values: on.map((e) => sayable(e.value)) };
  return floats(await postJson(operation(info.name, "decode"), { f, ...companions(info, state, x) }));
}

/* Rows of the decoder, what each of these features adds to x_hat when it is 1, before output scaling. */
export async function directions(info, ids) {
  const rows = await floats(await postJson(operation(info.name, "weights"), { decoder: ids }));
  return ids.map((_, i) => rows.slice(i * info.output_dim, (i + 1) * info.output_dim));
}

/* The row of the encoder that a feature looks along. */
export const encoderRow = async (info, id) => floats(await postJson(operation(info.name, "weights"), { encoder: [id] }));

/* What somebody calls a feature; "": nothing. */
export async function labelOf(info, id) {
  if (!info.options.includes("labels")) return "";
  return (await askJson(operation(info.name, "labels", { features: id }))).labels[id] || "";
}

/* Rows as a file has them, through the whole dictionary: mean L0 and the fraction of variance
 * unexplained (NaN: it has no decoder, or gives something else than x). */
export async function judge(info, file, rows) {
  const post = (op, query, accept) => ask(operation(info.name, op, query), {
    method: "POST", body: file.body, headers: { "Content-Type": file.type, Accept: accept },
  });
  const f = (await (await post("encode", { sparse: "true" }, "application/json")).json()).f;
  const l0 = f.indices.reduce((sum, list) => sum + list.length, 0) / Math.max(1, f.indices.length);
  if (!hasDecoder(info) || info.reading.kind !== "sae") return { l0, fvu: NaN };
  const hat = await floats(await post("forward", null, "application/octet-stream"));
  return { l0, fvu: fvu(rows, hat, info.activation_dim) };
}

function fvu(x, hat, d) {
  const n = x.length / d, mean = new Float64Array(d);
  let error = 0, spread = 0;
  x.forEach((v, i) => { mean[i % d] += v / n; });
  x.forEach((v, i) => {
    error += (v - hat[i]) ** 2;
    spread += (v - mean[i % d]) ** 2;
  });
  return error / spread;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

/* Numbers of a nested list, flat; all rows are `width` wide. */
export function rowsOfJson(text, width) {
  const value = JSON.parse(text);
  const list = (value && !Array.isArray(value) ? value.x : value) || [];
  const flat = Array.isArray(list) ? list.flat(8).map(Number) : [];
  let row = list;
  while (Array.isArray(row) && Array.isArray(row[0])) row = row[0];
  if (flat.length === 0 || !Array.isArray(row)) throw new Error("want a list of numbers, or of rows of them");
  if (row.length !== width || flat.length % width)
    throw new Error("a row has " + row.length + " numbers, this dictionary wants " + width);
  return Float32Array.from(flat);
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const NPY_TYPES = {
  "<f2": { bytes: 2, read: (view, at) => half(view.getUint16(at, true)) },
  "<f4": { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  "<f8": { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
};

/* An array of numpy.save: {width, rows (flat), n}; the server judges whatever is odd in it. */
export function rowsOfNpy(buffer) {
  const view = new DataView(buffer), bytes = new Uint8Array(buffer);
  if (buffer.byteLength < 12 || String.fromCharCode(...bytes.subarray(1, 6)) !== "NUMPY") throw new Error("this is no .npy file");
  const long = bytes[6] > 1, start = long ? 12 : 10;
  const end = start + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const head = new TextDecoder("latin1").decode(bytes.subarray(start, end));
  const type = NPY_TYPES[(/'descr': *'([^']*)'/.exec(head) || [])[1]];
  const dims = ((/'shape': *\(([^)]*)\)/.exec(head) || [])[1] || "").split(",").filter((s) => s.trim()).map(Number);
  if (!type || dims.length === 0) throw new Error("want an .npy of f2, f4 or f8 with rows in it");
  const total = dims.reduce((a, b) => a * b, 1), width = dims[dims.length - 1];
  if (end + total * type.bytes > buffer.byteLength) throw new Error("the .npy file is cut short");
  const fortran = /'fortran_order': *True/.test(head), rows = new Float32Array(total);
  for (let i = 0; i < total; i++) rows[fortran ? fromFortran(i, dims) : i] = type.read(view, end + i * type.bytes);
  return { width, rows, n: width ? total / width : 0 };
}

/* Where the i-th of a Fortran-ordered array stands in C order. */
function fromFortran(i, dims) {
  let at = 0;
  const index = dims.map((n) => { const k = i % n; i = Math.floor(i / n); return k; });
  dims.forEach((n, axis) => { at = at * n + index[axis]; });
  return at;
}
