// Faces drawn on a canvas, as space/annotate.py. `faces`: the API's JSON, boxes in pixels of what is drawn on.
import {area, label, wholeYears} from "./face.js";

/** A copy of a canvas with each face boxed, labeled and numbered; `colors` by what the label says. */
export function draw(canvas, faces, options) {
  const out = copy(canvas);
  annotate(out.getContext("2d"), faces, options);
  return out;
}

/** The same on the canvas itself. */
export function annotate(pen, faces, {colors, blurred}) {
  const {canvas} = pen,
    shorter = Math.min(canvas.width, canvas.height);
  if (blurred) blurFaces(pen, faces);
  mark(pen, faces, canvas, {
    colors,
    lineOf: ([, , width]) => Math.max(2, Math.round(Math.min(shorter / 250, width / 20))),
    sizeOf: ([, , width]) => Math.max(12, Math.round(Math.min(shorter / 22, Math.max(width / 6, shorter / 40)))),
  });
}

/**
 * Draw a box and a label for each face.
 *
 * A label covers no other face and no other label: where there is no room for all of it, it is the number and the age,
 * then the number alone, inside of its box. Numbers begin with #, so that none is taken for an age.
 *
 * @param pen what to draw with.
 * @param faces with `id` for the number of a person; without, they are numbered from 1.
 * @param area {width, height} that labels stay in.
 * @param lineOf, sizeOf: pixels of line and text for a box.
 */
export function mark(pen, faces, {width, height}, {colors, lineOf, sizeOf}) {
  const taken = [];
  pen.textBaseline = "middle";
  // Larger faces choose their places first; smaller ones are drawn later, on top.
  for (const face of [...faces].sort((a, b) => area(b) - area(a))) {
    const {box} = face,
      number = `#${face.id ?? faces.indexOf(face) + 1}`,
      size = sizeOf(box),
      high = 1.4 * size;
    pen.strokeStyle = pen.fillStyle = colors[face.gender_label];
    pen.lineWidth = lineOf(box);
    pen.strokeRect(...box);
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const others = [...faces.filter((other) => other !== face).map((other) => other.box), ...taken];
    const texts = [`${number} ${label(face)}`, `${number} ${wholeYears(face.age)}`, number];
    const places = texts.map((shown) =>
      freePlace(box, pen.measureText(shown).width + size / 2, high, {width, height}, others),
    );
    let chosen = places.findIndex(Boolean);
    if (chosen < 0) {
      chosen = texts.length - 1;
      const wide = pen.measureText(number).width + size / 2;
      places[chosen] = [within(box[0], width - wide), within(box[1], height - high), wide, high];
    }
    pen.fillRect(...places[chosen]);
    pen.fillStyle = "white";
    pen.fillText(texts[chosen], places[chosen][0] + size / 4, places[chosen][1] + high / 2);
    taken.push(places[chosen]);
  }
}

/** A place from 0 to `most`. */
const within = (place, most) => Math.max(0, Math.min(place, most));

/** Where a label covers no other face and no other label: above, below or inside the box; else undefined. */
function freePlace([x, y, , height], wide, high, {width: right, height: bottom}, others) {
  if (wide > right) return undefined;
  const left = within(x, right - wide);
  return [y - high, y + height, Math.max(0, y)]
    .filter((top) => top >= 0 && top + high <= bottom)
    .map((top) => [left, top, wide, high])
    .find(([a, b]) =>
      others.every((o) => o[0] >= a + wide || o[0] + o[2] <= a || o[1] >= b + high || o[1] + o[3] <= b),
    );
}

/** A copy of a canvas in which nobody can be recognized. */
export function blur(source, faces) {
  const out = copy(source);
  blurFaces(out.getContext("2d"), faces);
  return out;
}

/** Make each face an oval of a few soft patches. */
function blurFaces(pen, faces) {
  const source = pen.canvas;
  for (const {
    box: [x, y, width, height],
  } of faces) {
    // A margin for hair and chin, which detectors leave out.
    const [left, top, wide, high] = [x - 0.15 * width, y - 0.2 * height, 1.3 * width, 1.35 * height];
    // The part inside of the image: beyond it there is nothing to average.
    const [x0, y0] = [Math.max(0, left), Math.max(0, top)];
    const [w, h] = [Math.min(source.width, left + wide) - x0, Math.min(source.height, top + high) - y0];
    if (w < 1 || h < 1) continue;
    // What a blur alone spreads can be sharpened again.
    const patch = new OffscreenCanvas(4, 4);
    patch.getContext("2d").imageSmoothingQuality = "high";
    patch.getContext("2d").drawImage(source, x0, y0, w, h, 0, 0, 4, 4);
    pen.save();
    pen.beginPath();
    pen.ellipse(left + wide / 2, top + high / 2, wide / 2, high / 2, 0, 0, 2 * Math.PI);
    pen.clip();
    pen.drawImage(patch, x0, y0, w, h);
    pen.restore();
  }
}

function copy(canvas) {
  const out = document.createElement("canvas");
  [out.width, out.height] = [canvas.width, canvas.height];
  out.getContext("2d").drawImage(canvas, 0, 0);
  return out;
}
