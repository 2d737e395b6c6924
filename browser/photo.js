// A visitor's image file → a canvas that shows it upright, in sRGB and on white. The browser decodes it.
import {t} from "./text.js";

const MOST_SIDE = 32_000,
  MOST_DECODED = 256_000_000; // pixels of the file: as MAX_SIDE and OWN_FILES in space/photo.py
const MOST_PIXELS = 16_000_000; // of a canvas: phones allow no larger ones

/** {name, canvas, factor}; factor: the image's pixels per pixel of the canvas. Throws an Error for people to read. */
export async function openPhoto(file) {
  const address = URL.createObjectURL(file),
    image = new Image();
  try {
    // Not createImageBitmap, which refuses damaged files that an <img> shows as far as they go.
    await new Promise((done, failed) => Object.assign(image, {onload: done, onerror: failed, src: address}));
    const {naturalWidth: width, naturalHeight: height} = image;
    if (Math.max(width, height) > MOST_SIDE || width * height > MOST_DECODED) throw new RangeError();
    const factor = Math.max(1, Math.sqrt((width * height) / MOST_PIXELS)),
      canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height].map((n) => Math.max(1, Math.floor(n / factor)));
    const pen = canvas.getContext("2d", {willReadFrequently: true});
    pen.fillStyle = "white";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    pixels(canvas); // which browsers refuse for some SVGs, and for want of memory
    return {name: stem(file, "photo"), canvas, factor: width / canvas.width};
  } catch (error) {
    if (error instanceof RangeError)
      throw new Error(
        t(
          `The image is too large: the limit is ${MOST_DECODED / 1e6} megapixels and ${MOST_SIDE.toLocaleString("en")} pixels per side. Resize it and try again.`,
        ),
      );
    const heic = /\.(heic|heif)$/i.test(file.name ?? "") || /hei[cf]/.test(file.type);
    throw new Error(
      t(
        heic
          ? "This browser can't read HEIC images. Use Safari, or export the photo as JPEG."
          : "This file isn't an image that this browser can read. Use JPEG, PNG or WebP.",
      ),
    );
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** A file's name without its ending; `otherwise`: for a file that has none. */
export const stem = (file, otherwise) => (file.name ?? "").replace(/\.[^.]*$/, "") || otherwise;

let readable = false;

/** Whether the browser withholds the pixels of canvases, as Firefox does with resistFingerprinting. */
export function withheld() {
  if (readable) return false; // a frame of Live takes less time than a canvas to try it
  const pen = document.createElement("canvas").getContext("2d"),
    color = [20, 140, 230];
  pen.fillStyle = `rgb(${color})`;
  pen.fillRect(0, 0, 8, 8);
  const {data} = pen.getImageData(0, 0, 8, 8);
  readable = data.every((value, i) => i % 4 === 3 || Math.abs(value - color[i % 4]) <= 4);
  return !readable;
}

/** RGBA bytes of a canvas. */
export function pixels(canvas) {
  return canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
}
