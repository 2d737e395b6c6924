// Images as {data: RGBA bytes, width, height}, like ImageData: what OpenCV does in space/, without its canvas's rounding.

/** A rectangle of an image, averaged down to width x height as OpenCV's INTER_AREA does. */
export function resizeArea(image, width, height, [left, top, right, bottom] = [0, 0, image.width, image.height]) {
  const out = new Uint8ClampedArray(4 * width * height).fill(255);
  const across = weights(right - left, width),
    down = weights(bottom - top, height);
  const row = new Float32Array(3 * width),
    sum = new Float32Array(3 * width);
  let done = -1;
  for (let y = 0; y < height; y++) {
    sum.fill(0);
    for (const [source, weight] of down[y]) {
      if (source !== done) {
        // two output rows share the input row between them
        const base = 4 * ((top + source) * image.width + left);
        for (let x = 0; x < width; x++) {
          let r = 0,
            g = 0,
            b = 0;
          for (const [column, part] of across[x]) {
            const at = base + 4 * column;
            r += part * image.data[at];
            g += part * image.data[at + 1];
            b += part * image.data[at + 2];
          }
          row[3 * x] = r;
          row[3 * x + 1] = g;
          row[3 * x + 2] = b;
        }
        done = source;
      }
      for (let i = 0; i < sum.length; i++) sum[i] += weight * row[i];
    }
    for (let x = 0, at = 4 * y * width; x < width; x++, at += 4)
      for (let c = 0; c < 3; c++) out[at + c] = sum[3 * x + c]; // the array rounds
  }
  return {data: out, width, height};
}

/** For each of `to` cells the cells of `from` below it and their shares. */
function weights(from, to) {
  const scale = from / to;
  return Array.from({length: to}, (_, i) => {
    const [start, end] = [i * scale, Math.min((i + 1) * scale, from)],
      cells = [];
    for (let cell = Math.floor(start); cell < end - 1e-6; cell++)
      cells.push([cell, (Math.min(end, cell + 1) - Math.max(start, cell)) / (end - start)]);
    return cells;
  });
}

/** An image whose longer side is at most `side`, and the factor back to the original's pixels. */
export function shrink(image, side) {
  const factor = Math.max(image.width, image.height) / side;
  if (factor <= 1) return [image, 1];
  const [width, height] = [image.width, image.height].map((n) => Math.max(1, Math.round(n / factor)));
  return [resizeArea(image, width, height), factor];
}

/** An image turned by quarters of 90° counterclockwise. */
export function turned(image, quarters) {
  if (!quarters) return image;
  const {width, height} = image,
    [w, h] = quarters % 2 ? [height, width] : [width, height];
  const source = new Uint32Array(image.data.buffer, image.data.byteOffset, width * height),
    out = new Uint32Array(w * h);
  for (let y = 0, at = 0; y < h; y++)
    for (let x = 0; x < w; x++, at++) {
      const [sx, sy] = [null, [width - 1 - y, x], [width - 1 - x, height - 1 - y], [y, height - 1 - x]][quarters];
      out[at] = source[sy * width + sx];
    }
  return {data: new Uint8ClampedArray(out.buffer), width: w, height: h};
}

/** A rectangle of an image. */
export function part(image, left, top, width, height) {
  const out = new Uint8ClampedArray(4 * width * height);
  for (let y = 0; y < height; y++) {
    const start = 4 * ((top + y) * image.width + left);
    out.set(image.data.subarray(start, start + 4 * width), 4 * y * width);
  }
  return {data: out, width, height};
}
