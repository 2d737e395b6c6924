// Detector, crop and estimator in one, as space/analyzer.py.
import {crop} from "./crop.js";
import {surest} from "./detector.js";
import {area, cutOff, turnedBack} from "./face.js";
import {turned} from "./pixels.js";
import {upright} from "./tilt.js";

export class FaceAnalyzer {
  /** `limits`: the constants of space/analyzer.py and space/tilt.py, from kit.json. */
  constructor(detector, estimator, limits, tilt) {
    Object.assign(this, {detector, estimator, limits, tilt});
  }

  /** Every face of an image with apparent age and gender, largest first. `stopped`: asked between batches. */
  async analyze(image, threshold, stopped) {
    return this.estimate(image, await this.detect(image, threshold), {stopped});
  }

  /**
   * Faces without age and gender, largest first. `side`: as for `YuNet.detect`; null also finds tilted faces.
   * `quarters`: by how many to turn the image; null: as it is, and if YuNet is sure of no face, turned by 90°, 180° and
   * 270° too.
   */
  async detect(image, threshold, {side = null, quarters = null} = {}) {
    const thorough = side == null,
      least = thorough ? Math.min(threshold, this.tilt.proposed) : threshold;
    const search = async (number) => {
      const faces = await this.detector.detect(turned(image, number), threshold, side, least);
      return faces.map((face) => turnedBack(face, number, image.width, image.height));
    };
    let found = await search(quarters ?? 0);
    if (quarters == null && surest(found) < this.detector.limits.sure) {
      let most = total(found, threshold) + this.limits.margin;
      for (const number of [1, 2, 3]) {
        const faces = await search(number);
        if (surest(faces) < this.tilt.turned || total(faces, threshold) <= most) continue;
        found = faces;
        most = total(faces, threshold);
      }
    }
    if (thorough) found = await upright(this.detector, image, found, threshold, this.tilt);
    return found.sort((a, b) => area(b) - area(a));
  }

  /** The same faces with age and gender filled in, and each with its `crop`; `options` as for `Estimator.estimate`. */
  async estimate(image, faces, options) {
    const crops = faces.map((face) => crop(image, face, this.estimator.card.crop));
    const answers = await this.estimator.estimate(crops, options);
    const cut = ({box}) => cutOff(box, image.width, image.height);
    return faces.map((face, i) => ({...face, ...answers[i], cut_off: cut(face), crop: crops[i]}));
  }
}

const total = (faces, threshold) => faces.reduce((sum, {score}) => (score >= threshold ? sum + score : sum), 0);
