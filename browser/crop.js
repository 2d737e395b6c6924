// One face → a crop in the network's framing, as space/crop.py: the similarity transform onto the template's landmarks.
import {resizeArea} from "./pixels.js";

/** Crop a face: RGB bytes [size, size, 3]. `template` is the bundle card's `crop`. */
export function crop(image, face, template) {
  return warp(image, similarity(face.landmarks, template.landmarks), template.size);
}

/** A square of an image, RGB bytes [size, size, 3]: x' = a x - b y + shiftX, y' = b x + a y + shiftY. */
export function warp(image, [a, b, shiftX, shiftY], size) {
  const scale = Math.hypot(a, b);
  const origin = (x, y) => {
    const [u, v] = [x - shiftX, y - shiftY];
    return [(a * u + b * v) / (scale * scale), (a * v - b * u) / (scale * scale)];
  };
  let source = image,
    place = origin;
  if (scale < 0.5) {
    // bilinear sampling skips pixels when it shrinks by more than two: average first
    const corners = [
      [0, 0],
      [size, 0],
      [0, size],
      [size, size],
    ].map(([x, y]) => origin(x, y));
    const [x0, y0] = [0, 1].map((axis) => Math.max(0, Math.floor(Math.min(...corners.map((c) => c[axis]))) - 4));
    const [x1, y1] = [image.width, image.height].map((limit, axis) =>
      Math.min(limit, Math.ceil(Math.max(...corners.map((c) => c[axis]))) + 4),
    );
    if (x1 > x0 && y1 > y0) {
      const [width, height] = [x1 - x0, y1 - y0].map((n) => Math.max(1, Math.round(2 * scale * n)));
      source = resizeArea(image, width, height, [x0, y0, x1, y1]);
      const [fx, fy] = [(x1 - x0) / width, (y1 - y0) / height];
      place = (x, y) => {
        const [u, v] = origin(x, y);
        return [(u - x0 + 0.5) / fx - 0.5, (v - y0 + 0.5) / fy - 0.5];
      };
    }
  }
  return sample(source, place, size);
}

/** Bilinear samples at place(x, y) for each pixel of the crop; beyond the image its border repeats. */
function sample({data, width, height}, place, size) {
  const out = new Uint8ClampedArray(3 * size * size);
  // The map is affine: its value at the origin and its two steps are enough. In steps of 1/32 pixel, rounded as OpenCV does,
  // whose answers these are to the last bit.
  const [x0, y0] = place(0, 0),
    [ax, ay] = place(1, 0).map((v, i) => v - [x0, y0][i]),
    [bx, by] = place(0, 1).map((v, i) => v - [x0, y0][i]);
  const fixed = (v) => Math.round(1024 * v),
    inside = (v, limit) => (v < 0 ? 0 : v >= limit ? limit - 1 : v);
  for (let y = 0, at = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const u = (fixed(x0 + y * bx) + fixed(x * ax) + 16) >> 5,
        v = (fixed(y0 + y * by) + fixed(x * ay) + 16) >> 5;
      const left = u >> 5,
        top = v >> 5,
        p = (u & 31) / 32,
        q = (v & 31) / 32;
      const [l, r] = [inside(left, width), inside(left + 1, width)],
        [t, d] = [inside(top, height) * width, inside(top + 1, height) * width];
      const [lt, rt, ld, rd] = [4 * (t + l), 4 * (t + r), 4 * (d + l), 4 * (d + r)];
      for (let c = 0; c < 3; c++, at++) {
        const value =
          (1 - q) * ((1 - p) * data[lt + c] + p * data[rt + c]) + q * ((1 - p) * data[ld + c] + p * data[rd + c]);
        out[at] = Math.floor(value + 0.5);
      }
    }
  return out;
}

/** The rotation, uniform scale and shift that bring points closest to others: a complex division (Umeyama 1991). */
function similarity(source, target) {
  const mean = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const [s0, t0] = [mean(source), mean(target)];
  let real = 0,
    imaginary = 0,
    spread = 0;
  source.forEach((point, i) => {
    const [sx, sy] = [point[0] - s0[0], point[1] - s0[1]],
      [tx, ty] = [target[i][0] - t0[0], target[i][1] - t0[1]];
    real += tx * sx + ty * sy;
    imaginary += ty * sx - tx * sy;
    spread += sx * sx + sy * sy;
  });
  const [a, b] = spread > 1e-9 ? [real / spread, imaginary / spread] : [1, 0];
  return [a, b, t0[0] - a * s0[0] + b * s0[1], t0[1] - b * s0[0] - a * s0[1]];
}
