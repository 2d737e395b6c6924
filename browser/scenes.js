// Cuts between scenes, and flashes that look like cuts, as space/video/scenes.py. `limits`: that module's constants.
const WIDTH = 48,
  HEIGHT = 27;

export class SceneCuts {
  constructor(limits) {
    Object.assign(this, {limits, frame: 0, previous: null, current: null, last: null});
    this.pen = new OffscreenCanvas(WIDTH, HEIGHT).getContext("2d", {willReadFrequently: true});
    this.pen.imageSmoothingQuality = "high";
  }

  /** Whether a canvas shows another scene than the one before. */
  isCut(canvas) {
    this.pen.drawImage(canvas, 0, 0, WIDTH, HEIGHT);
    this.frame++;
    [this.previous, this.current] = [this.current, hsv(this.pen.getImageData(0, 0, WIDTH, HEIGHT).data)];
    return this.previous !== null && change(this.previous, this.current) > this.limits.cut;
  }

  /** Whether the cut just found ends a flash: the scene before the last cut is back. */
  isBack() {
    const {last, limits} = this;
    if (last && this.frame - last.frame <= limits.flash_frames && change(last.before, this.current) <= limits.cut) {
      this.last = null;
      return true;
    }
    this.last = {frame: this.frame, before: this.previous};
    return false;
  }
}

/** Hue of 0 to 180, saturation and value of 0 to 255 of each pixel. */
function hsv(rgba) {
  const out = new Float32Array((3 * rgba.length) / 4);
  for (let i = 0, at = 0; i < rgba.length; i += 4, at += 3) {
    const [r, g, b] = [rgba[i], rgba[i + 1], rgba[i + 2]],
      value = Math.max(r, g, b),
      range = value - Math.min(r, g, b);
    let hue = 0;
    if (range) hue = value === r ? (g - b) / range : value === g ? 2 + (b - r) / range : 4 + (r - g) / range;
    out[at] = 30 * (hue < 0 ? hue + 6 : hue);
    out[at + 1] = value ? (255 * range) / value : 0;
    out[at + 2] = value;
  }
  return out;
}

function change(one, other) {
  let sum = 0;
  for (let i = 0; i < one.length; i++) {
    const difference = Math.abs(one[i] - other[i]);
    sum += i % 3 ? difference : Math.min(difference, 180 - difference); // hue is a circle
  }
  return sum / one.length;
}
