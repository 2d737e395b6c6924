// YuNet in ONNX Runtime, as space/detector.py. `limits` are that module's constants, from kit.json.
import {center, moved, scaled} from "./face.js";
import {part, shrink} from "./pixels.js";

export class YuNet {
  /** `session`: of onnxruntime-web; `Tensor`: its class. */
  constructor(session, Tensor, limits) {
    Object.assign(this, {session, Tensor, limits});
  }

  /**
   * Find faces; boxes in pixels of the image. `side`: search at that longer side alone; null: also larger or smaller.
   * `least`: also return what may be a face, with scores from here to the threshold.
   */
  async detect(image, threshold, side = null, least = threshold) {
    const {max_side, min_side, panorama, close_up, small, large, sure} = this.limits;
    const longer = Math.max(image.width, image.height),
      shorter = Math.min(image.width, image.height);
    const thorough = side == null;
    side ??= max_side;
    if (shorter < min_side) return [];
    if (thorough && longer > panorama * shorter && longer > 2 * side) return this.inTiles(image, least);
    const faces = await this.detectAt(image, side, least);
    const found = faces.filter((face) => face.score >= threshold);
    const sides = found.map(({box}) => (Math.max(box[2], box[3]) * Math.min(longer, side)) / longer); // where it was searched
    // In a smaller image, faces are found that are too large for YuNet.
    if (Math.min(longer, side) > close_up && (!found.length || Math.max(...sides) > large || surest(found) < sure))
      faces.push(...(await this.detectAt(image, close_up, least)));
    // Where there are small faces, there may be smaller ones.
    if (thorough && longer > side && (sides.length ? Math.min(...sides) : 0) < small)
      faces.push(...(await this.detectAt(image, 2 * side, least)));
    return suppress(faces, this.limits);
  }

  /**
   * Faces of a panorama, from overlapping tiles along its longer side. Each tile gives the faces near its middle: its
   * edge may cut others, which are whole in the next tile.
   */
  async inTiles(image, threshold) {
    const {width, height} = image,
      across = width > height,
      {max_side} = this.limits;
    const tile = Math.max(Math.round(1.5 * Math.min(width, height)), Math.floor(max_side / 2)),
      step = Math.floor(tile / 2);
    const faces = [],
      longer = Math.max(width, height);
    for (let start = 0; start < longer - tile + step; start += step) {
      const length = Math.min(tile, longer - start);
      const [x, y, w, h] = across ? [start, 0, length, height] : [0, start, width, length];
      // The middles of two tiles overlap by a sixteenth. Beyond the image's ends, there is no other tile.
      const low = start ? start + tile / 4 - tile / 32 : -Infinity,
        high = start + tile < longer ? start + (3 * tile) / 4 + tile / 32 : Infinity;
      for (const face of await this.detectAt(part(image, x, y, w, h), max_side, threshold)) {
        const whole = moved(face, x, y),
          place = center(whole)[across ? 0 : 1];
        if (low <= place && place <= high) faces.push(whole);
      }
    }
    return suppress(faces, this.limits);
  }

  async detectAt(image, side, threshold) {
    const [small, factor] = shrink(image, side);
    const found = decode(await this.run(small), small, threshold, this.limits.strides);
    return nms(found, this.limits.overlap, this.limits.candidates)
      .filter((face) => Math.min(face.box[2], face.box[3]) >= 1)
      .map((face) => scaled(face, factor));
  }

  async run({data, width, height}) {
    const [w, h] = [width, height].map((n) => 32 * Math.ceil(n / 32)),
      plane = w * h,
      blob = new Float32Array(3 * plane);
    for (let y = 0, at = 0; y < height; y++)
      for (let x = 0, to = y * w; x < width; x++, at += 4, to++) {
        blob[to] = data[at + 2];
        blob[to + plane] = data[at + 1];
        blob[to + 2 * plane] = data[at]; // BGR
      }
    return this.session.run({[this.session.inputNames[0]]: new this.Tensor("float32", blob, [1, 3, h, w])});
  }
}

/** YuNet's outputs → faces: a cell of each stride has a class and an object score, a box around it and five points. */
function decode(outputs, {width}, threshold, strides) {
  const faces = [];
  for (const stride of strides) {
    const [cls, obj, bbox, kps] = ["cls", "obj", "bbox", "kps"].map((kind) => outputs[`${kind}_${stride}`].data);
    const columns = (32 * Math.ceil(width / 32)) / stride,
      unit = (v) => Math.min(Math.max(v, 0), 1);
    for (let i = 0; i < cls.length; i++) {
      const score = Math.sqrt(unit(cls[i]) * unit(obj[i]));
      if (!(score >= threshold)) continue;
      const [column, row] = [i % columns, Math.floor(i / columns)];
      const [x, y] = [(column + bbox[4 * i]) * stride, (row + bbox[4 * i + 1]) * stride];
      const [w, h] = [Math.exp(bbox[4 * i + 2]) * stride, Math.exp(bbox[4 * i + 3]) * stride];
      const landmarks = [0, 1, 2, 3, 4].map((p) => [
        (kps[10 * i + 2 * p] + column) * stride,
        (kps[10 * i + 2 * p + 1] + row) * stride,
      ]);
      const box = [x - w / 2, y - h / 2, w, h];
      if ([...box, ...landmarks.flat()].every(Number.isFinite)) faces.push({box, score, landmarks, rotation: 0});
    }
  }
  return faces;
}

/** Non-maximum suppression in whole pixels, best first, as OpenCV's FaceDetectorYN does. */
function nms(faces, overlap, candidates) {
  const kept = [];
  for (const face of [...faces].sort((a, b) => b.score - a.score).slice(0, candidates)) {
    const box = face.box.map(Math.trunc);
    if (kept.every((other) => shared(box, other.whole) <= overlap * (union(box, other.whole) || 1)))
      kept.push({face, whole: box});
  }
  return kept.map(({face}) => face);
}

/** The highest score, 0 without a face. */
export const surest = (faces) => Math.max(0, ...faces.map((face) => face.score));

/** Keep the best of faces that overlap, or of which one is inside another. */
export function suppress(faces, {overlap, nested, max_faces, candidates}) {
  const kept = [];
  for (const face of nms(faces, overlap, candidates)) {
    if (
      kept.every(
        (other) => shared(face.box, other.box) <= nested * Math.max(Math.min(size(face.box), size(other.box)), 1e-6),
      )
    )
      kept.push(face);
    if (kept.length === max_faces) break;
  }
  return kept;
}

const size = (box) => box[2] * box[3];
const union = (a, b) => size(a) + size(b) - shared(a, b);

function shared(a, b) {
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}
