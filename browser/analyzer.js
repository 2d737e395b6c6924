// Detector, crop and estimator in one, as space/analyzer.py.
import {crop} from "./crop.js";
import {area, cutOff, turnedBack} from "./face.js";
import {turned} from "./pixels.js";

export class FaceAnalyzer {
  constructor(detector, estimator, limits) {
    Object.assign(this, {detector, estimator, limits});
  }

  /** Every face of an image with apparent age and gender, largest first. `stopped`: asked between batches. */
  async analyze(image, threshold, stopped) {
    return this.estimate(image, await this.detect(image, threshold), {stopped});
  }

  /** Faces without age and gender, largest first. `upright`: don't turn the image when YuNet is sure of no face. */
  async detect(image, threshold, {side = null, upright = false} = {}) {
    let found = await this.detector.detect(image, threshold, side);
    if (!upright && surest(found) < this.limits.sure) {
      let best = found,
        most = total(found) + this.limits.margin;
      for (const quarters of [1, 2, 3]) {
        const faces = await this.detector.detect(turned(image, quarters), threshold, side);
        if (surest(faces) >= this.limits.turned && total(faces) > most)
          [best, most] = [faces.map((face) => turnedBack(face, quarters, image.width, image.height)), total(faces)];
      }
      found = best;
    }
    return [...found].sort((a, b) => area(b) - area(a));
  }

  /** The same faces with age and gender filled in, and each with its `crop`; `options` as for `Estimator.estimate`. */
  async estimate(image, faces, options) {
    const crops = faces.map((face) => crop(image, face, this.estimator.card.crop));
    const answers = await this.estimator.estimate(crops, options);
    const cut = ({box}) => cutOff(box, image.width, image.height);
    return faces.map((face, i) => ({...face, ...answers[i], cut_off: cut(face), crop: crops[i]}));
  }
}

const surest = (faces) => Math.max(0, ...faces.map((face) => face.score));
const total = (faces) => faces.reduce((sum, face) => sum + face.score, 0);
