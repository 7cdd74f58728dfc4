/* picture.js - vectors as pictures: a square where they are one, else a strip of rows of 64. */

const MAX_SQUARE = 28;
const STRIP = 64;

/* Side of the square that n numbers make; 0: none that is small enough. */
export function side(n) {
  const s = Math.round(Math.sqrt(n));
  return s * s === n && s > 1 && s <= MAX_SQUARE ? s : 0;
}

function colour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
}

export function largest(v) {
  return v.reduce((most, value) => Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most, 0);
}

/* Draw v: 0 as paper, `most` as ink, -most as the colour of what is taken away. */
export function paint(canvas, v, isSquare, most = largest(v)) {
  const width = isSquare ? side(v.length) : Math.min(STRIP, v.length), height = Math.ceil(v.length / width);
  const paper = colour("--paper"), up = colour("--up"), down = colour("--down"), odd = colour("--odd");
  canvas.width = width;
  canvas.height = height;
  canvas.classList.toggle("strip", !isSquare);
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  v.forEach((value, i) => {
    const t = most > 0 ? Math.max(-1, Math.min(1, value / most)) : 0;
    const to = Number.isFinite(value) ? (t > 0 ? up : down) : odd, share = Number.isFinite(value) ? Math.abs(t) : 1;
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = Math.round(paper[c] + (to[c] - paper[c]) * share);
    image.data[4 * i + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}
