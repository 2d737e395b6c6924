// Faces drawn on a canvas, as space/annotate.py.
import {area, label} from "./face.js";

/** A copy of a canvas with each face boxed, labeled and numbered; `colors` by what the label says. */
export function draw(canvas, faces, {colors, limits, blurred}) {
  const out = copy(canvas), pen = out.getContext("2d"), shorter = Math.min(out.width, out.height);
  if (blurred) for (const face of faces) blur(pen, canvas, face);
  const taken = [];
  // Larger faces choose their places first; smaller ones are drawn later, on top.
  for (const face of [...faces].sort((a, b) => area(b) - area(a))) {
    const [x, y, width, height] = face.box, number = String(faces.indexOf(face) + 1), text = label(face, limits);
    pen.strokeStyle = pen.fillStyle = colors[text.split(",")[0]];
    pen.lineWidth = Math.max(2, Math.round(Math.min(shorter / 250, width / 20)));
    pen.strokeRect(x, y, width, height);
    const size = Math.max(12, Math.round(Math.min(shorter / 22, Math.max(width / 6, shorter / 40)))), high = 1.4 * size;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    pen.textBaseline = "middle";
    const others = [...faces.filter((other) => other !== face).map((other) => other.box), ...taken];
    let place;
    for (const shown of [`${number}  ${text}`, number]) {
      const wide = pen.measureText(shown).width + size / 2;
      place = freePlace(face.box, wide, high, out, others);
      // In a crowd: the number inside of its own box.
      if (!place && shown === number) place = [Math.max(0, x), Math.max(0, y), wide, high];
      if (!place) continue;
      pen.fillRect(...place);
      pen.fillStyle = "white";
      pen.fillText(shown, place[0] + size / 4, place[1] + high / 2);
      taken.push(place);
      break;
    }
  }
  return out;
}

/** Where a label covers no other face and no other label: above, below or inside the box; else undefined. */
function freePlace([x, y, , height], wide, high, {width: right, height: bottom}, others) {
  const left = Math.min(Math.max(x, 0), Math.max(0, right - wide));
  return [y - high, y + height, Math.max(0, y)].filter((top) => top >= 0 && top + high <= bottom).map((top) => [left, top, wide, high])
    .find(([a, b]) => others.every((o) => o[0] >= a + wide || o[0] + o[2] <= a || o[1] >= b + high || o[1] + o[3] <= b));
}

/** An oval of a few soft patches over a face: what a blur alone spreads can be sharpened again. */
function blur(pen, source, {box: [x, y, width, height]}) {
  // A margin for hair and chin, which detectors leave out.
  const [left, top, wide, high] = [x - 0.15 * width, y - 0.2 * height, 1.3 * width, 1.35 * height];
  // The part inside of the image: beyond it there is nothing to average.
  const [x0, y0] = [Math.max(0, left), Math.max(0, top)];
  const [w, h] = [Math.min(source.width, left + wide) - x0, Math.min(source.height, top + high) - y0];
  if (w < 1 || h < 1) return;
  const patch = document.createElement("canvas");
  patch.width = patch.height = 6;
  patch.getContext("2d").imageSmoothingQuality = "high";
  patch.getContext("2d").drawImage(source, x0, y0, w, h, 0, 0, 6, 6);
  pen.save();
  pen.beginPath();
  pen.ellipse(left + wide / 2, top + high / 2, wide / 2, high / 2, 0, 0, 2 * Math.PI);
  pen.clip();
  pen.drawImage(patch, x0, y0, w, h);
  pen.restore();
}

function copy(canvas) {
  const out = document.createElement("canvas");
  [out.width, out.height] = [canvas.width, canvas.height];
  out.getContext("2d").drawImage(canvas, 0, 0);
  return out;
}
