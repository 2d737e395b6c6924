// How sharp a crop is, as `sharpness` in space/quality.py.
const WINDOW = 11; // pixels at half the crop's size

/** RGB bytes [side, side, 3] → 0 for a face that a further blur hardly changes, to 1. `side` is even. */
export function sharpness(crop) {
  const side = Math.sqrt(crop.length / 3),
    half = side / 2,
    gray = new Uint8Array(side * side),
    small = new Float32Array(half * half);
  for (let i = 0; i < gray.length; i++)
    gray[i] = Math.round(0.299 * crop[3 * i] + 0.587 * crop[3 * i + 1] + 0.114 * crop[3 * i + 2]);
  for (let y = 0; y < half; y++)
    for (let x = 0; x < half; x++) {
      const at = 2 * y * side + 2 * x;
      small[y * half + x] = Math.round((gray[at] + gray[at + 1] + gray[at + side] + gray[at + side + 1]) / 4);
    }
  const values = blurred(blurred(small, half, 3, 1, half), half, 3, half, 1);
  // Along rows, then along columns; the worse of the two.
  return (
    1 -
    Math.max(
      ...[
        [1, half],
        [half, 1],
      ].map(([step, line]) => {
        const soft = blurred(values, half, WINDOW, step, line);
        let before = 0,
          lost = 0;
        for (let i = 0; i < half; i++)
          for (let j = 1; j < half; j++) {
            const at = i * line + j * step,
              sharp = Math.abs(values[at] - values[at - step]);
            before += sharp;
            lost += Math.max(0, sharp - Math.abs(soft[at] - soft[at - step]));
          }
        return before > 0 ? 1 - lost / before : 1;
      }),
    )
  );
}

/** The mean over `window` values along one direction; beyond the edge, the last value repeats. */
function blurred(values, side, window, step, line) {
  const out = new Float32Array(values.length),
    reach = (window - 1) / 2;
  for (let i = 0; i < side; i++)
    for (let j = 0; j < side; j++) {
      let sum = 0;
      for (let k = j - reach; k <= j + reach; k++) sum += values[i * line + Math.min(side - 1, Math.max(0, k)) * step];
      out[i * line + j * step] = sum / window;
    }
  return out;
}
