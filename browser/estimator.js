// Crops → age and gender, as space/estimator.py and space/calibration.py. `card` is the bundle's age_gender.json.
import {sharpness} from "./sharpness.js";

const BATCH = 4; // faces a run: WASM gains nothing from more
const AGES = 102; // of the distributions: 0 to 101 years

export class Estimator {
  /** `limits`: of kit.json, {soft, wider: as in space/quality.py; least: as in space/calibration.py} */
  constructor(session, Tensor, card, limits) {
    Object.assign(this, {session, Tensor, card, limits, size: card.crop.size});
    this.calibration = new Calibration(card.calibration, limits.least);
  }

  /**
   * For each crop (RGB bytes [size, size, 3]): {age, age_low, age_high, p_female, age_probs, sharpness}. `mirror`: the mean over the
   * face and its mirror image, where the network was exported so; else half the work. `stopped`: whether to give up.
   */
  async estimate(crops, {mirror = true, stopped = async () => false} = {}) {
    const looks = mirror && this.card.mirror ? crops.flatMap((crop) => [crop, this.flipped(crop)]) : crops;
    const rows = [],
      per = looks.length / crops.length;
    for (let start = 0; start < looks.length; start += BATCH) {
      if (start && (await stopped())) throw new Error("The analysis was stopped.");
      rows.push(...(await this.run(looks.slice(start, start + BATCH))));
    }
    return crops.map((_, i) => {
      const [first, second = first] = rows.slice(i * per, (i + 1) * per),
        mean = (key) => (first[key] + second[key]) / 2;
      const probs = first.age_probs?.map((p, years) => (p + second.age_probs[years]) / 2);
      return this.calibrated(Math.max(mean("age"), 0), mean("p_female"), probs, sharpness(crops[i]));
    });
  }

  /** The network's own outputs. */
  async run(crops) {
    const data = new Uint8Array(crops.length * crops[0].length);
    for (const [i, crop] of crops.entries()) data.set(crop, i * crop.length);
    const face = new this.Tensor("uint8", data, [crops.length, this.size, this.size, 3]);
    const {age, p_female, age_probs} = await this.session.run({[this.session.inputNames[0]]: face}),
      ages = age_probs?.dims[1];
    return crops.map((_, i) => ({
      age: age.data[i],
      p_female: p_female.data[i],
      age_probs: age_probs?.data.slice(i * ages, (i + 1) * ages),
    }));
  }

  flipped(crop) {
    const out = new Uint8Array(crop.length),
      width = 3 * this.size;
    for (let at = 0; at < crop.length; at += 3) {
      const to = at - (at % width) + width - 3 - (at % width);
      out[to] = crop[at];
      out[to + 1] = crop[at + 1];
      out[to + 2] = crop[at + 2];
    }
    return out;
  }

  calibrated(age, p, age_probs, sharpness) {
    const {soft, wider} = this.limits,
      factor = Math.max(1, soft / Math.max(sharpness, 0.02)) ** wider;
    const probs = this.calibration.ageProbs(age, age_probs, factor),
      [age_low, age_high] = this.calibration.interval(age, probs);
    return {age, age_low, age_high, p_female: this.calibration.pFemale(p), age_probs: age_probs && probs, sharpness};
  }
}

export class Calibration {
  constructor({age, gender}, least) {
    const weights = Array.from({length: AGES}, (_, years) => Math.exp(interpolated(years, age.at, age.log_weight)));
    Object.assign(this, {age, least, weights, temperature: gender.temperature});
  }

  /** How likely each age is. `probs`: the network's distribution, or none. `wider`: how much larger errors are. */
  ageProbs(age, probs, wider = 1) {
    const flatter = interpolated(age, this.age.at, this.age.temperature) * wider ** 2,
      logs = Array.from({length: AGES}, (_, years) => {
        const log = probs ? Math.log(Math.max(probs[years], this.least)) : -0.5 * (years - age) ** 2;
        return log / flatter;
      }),
      most = Math.max(...logs);
    return normalized(logs.map((log) => Math.exp(log - most)));
  }

  /** Lower and upper bound: what holds the share `level` of the weighted distribution, and the prediction. */
  interval(age, probs) {
    const weighted = normalized(probs.map((p, years) => p * this.weights[years])),
      {level} = this.age;
    const reached = (share) => {
      let sum = 0;
      const years = weighted.findIndex((p) => {
        sum += p;
        return sum >= share;
      });
      return years < 0 ? AGES - 1 : years;
    };
    return [Math.min(reached((1 - level) / 2), age), Math.max(reached((1 + level) / 2), age)];
  }

  /** Calibrated by temperature (Guo et al. 2017, arXiv 1706.04599). */
  pFemale(p) {
    const inside = Math.min(Math.max(p, 1e-7), 1 - 1e-7);
    return 1 / (1 + Math.exp(-Math.log(inside / (1 - inside)) / this.temperature));
  }
}

function normalized(weights) {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** As NumPy's `interp`: linear between the points, constant beyond. */
function interpolated(x, at, values) {
  const next = at.findIndex((value) => value > x);
  if (next === 0) return values[0];
  if (next < 0) return values.at(-1);
  const share = (x - at[next - 1]) / (at[next] - at[next - 1]);
  return values[next - 1] + share * (values[next] - values[next - 1]);
}
