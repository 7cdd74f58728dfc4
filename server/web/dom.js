/* dom.js - elements. Whatever comes from a server or a file becomes text, never markup. */

export const byId = (id) => document.getElementById(id);

/* An element with attributes (functions: listeners) and children, which are elements or text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/* Pairs of a term and what is said of it, as the children of a <dl>. */
export function setPairs(list, pairs) {
  list.replaceChildren(...pairs.map(([term, text, attributes]) =>
    make("div", attributes || {}, make("dt", {}, term), make("dd", {}, text))));
}

export function setText(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/* So many significant digits, without the zeros behind them. */
export function digits(value, n = 3) {
  if (!Number.isFinite(value)) return String(value);
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return value.toExponential(n - 1);
  return String(Number(value.toPrecision(n)));
}

export const percent = (value) => digits(100 * value) + " %";

export function seconds(value) {
  if (!Number.isFinite(value)) return "\u2013";
  return value < 1e-3 ? digits(value * 1e6, 2) + " \u00b5s" : value < 1 ? digits(value * 1e3, 2) + " ms" : digits(value, 2) + " s";
}

/* A group of which one is chosen: arrows, Home and End move along it, and only one is a stop of Tab. */
export function arrows(event, items, at) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const to = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1
    : step ? (at + step + items.length) % items.length : -1;
  if (to < 0) return -1;
  event.preventDefault();
  return to;
}
