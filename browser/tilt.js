// Tilted faces, as space/tilt.py. `limits` are that module's constants, from kit.json.
import {warp} from "./crop.js";
import {suppress} from "./detector.js";
import {center} from "./face.js";

/**
 * The same faces, with the landmarks of the turned crop in which YuNet is most sure. `faces`: of the image, also less
 * likely ones; `threshold`: score that returned faces have at least.
 */
export async function upright(detector, image, faces, threshold, limits) {
  const kept = [];
  let unsure = 0;
  for (let face of [...faces].sort((a, b) => b.score - a.score)) {
    if (face.score < limits.upright && unsure < limits.most) {
      unsure++;
      const turns = face.score >= limits.nearly ? limits.leaning : limits.any;
      let best = face;
      for (const seen of await turnedBy(turns, detector, image, face, limits)) if (seen.score > best.score) best = seen;
      if (best.score > face.score + limits.margin && (best.score >= limits.turned || face.score >= threshold))
        face = best;
    }
    if (face.score >= threshold) kept.push(face);
  }
  return suppress(kept, detector.limits);
}

/** The face as YuNet sees it in crops that are turned by so many degrees counterclockwise. */
async function turnedBy(turns, detector, image, face, {size, width, proposed}) {
  const side = Math.max(face.box[2], face.box[3]),
    wide = (3 * size) / 2, // enough for each turn
    scale = size / (width * side);
  const middle = center(face).map((v) => v - 0.5); // a pixel's center is half a pixel from its corner
  const around = rgba(warp(image, about(middle, wide, scale, 0), wide), wide);
  const faces = [];
  for (const degrees of turns) {
    const turn = degrees + face.rotation,
      matrix = about([(wide - 1) / 2, (wide - 1) / 2], size, 1, turn);
    const [a, b] = matrix;
    const back = (point) => {
      const [u, v] = point.map((value) => value - (size - 1) / 2);
      return [(a * u + b * v) / scale + middle[0], (a * v - b * u) / scale + middle[1]];
    };
    for (const seen of await detector.detect(rgba(warp(around, matrix, size), size), proposed, size)) {
      const place = back(center(seen).map((v) => v - 0.5));
      if (Math.hypot(place[0] - middle[0], place[1] - middle[1]) >= 0.4 * side) continue;
      let [w, h] = [seen.box[2] / scale, seen.box[3] / scale];
      if (Math.abs(turn % 180) === 90) [w, h] = [h, w];
      const box = [place[0] + 0.5 - w / 2, place[1] + 0.5 - h / 2, w, h];
      faces.push({...face, box, score: seen.score, landmarks: seen.landmarks.map(back)});
    }
  }
  return faces;
}

/** For `warp`: scales, turns counterclockwise, and moves a point to the middle of a square. */
function about([x, y], size, scale, degrees) {
  const angle = -(degrees * Math.PI) / 180; // y points down
  const [a, b] = [scale * Math.cos(angle), scale * Math.sin(angle)];
  return [a, b, (size - 1) / 2 - (a * x - b * y), (size - 1) / 2 - (b * x + a * y)];
}

function rgba(rgb, size) {
  const data = new Uint8ClampedArray(4 * size * size).fill(255);
  for (let i = 0, from = 0; i < data.length; i += 4, from += 3) data.set(rgb.subarray(from, from + 3), i);
  return {data, width: size, height: size};
}
