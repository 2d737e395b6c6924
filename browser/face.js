// A face as the stages pass it on, as `Face` in space/face.py: {box: [x, y, width, height], score, landmarks: [[x, y], …],
// rotation, age, age_low, age_high, p_female, age_probs, id}. Pixels of the upright image, years.

import {listed, percent, t} from "./text.js";

export const area = (face) => face.box[2] * face.box[3];
export const center = (face) => [face.box[0] + face.box[2] / 2, face.box[1] + face.box[3] / 2];
const gender = (face) => (face.p_female >= 0.5 ? "female" : "male");
const genderProbability = (face) => Math.max(face.p_female, 1 - face.p_female);

/** The face of a part of an image whose corner is at x, y, in pixels of the image. */
export function moved(face, x, y) {
  const [left, top, width, height] = face.box;
  return {...face, box: [left + x, top + y, width, height], landmarks: face.landmarks.map(([a, b]) => [a + x, b + y])};
}

/** The face in pixels of an image that is `factor` times as large. */
export function scaled(face, factor) {
  return {
    ...face,
    box: face.box.map((v) => v * factor),
    landmarks: face.landmarks.map((p) => p.map((v) => v * factor)),
  };
}

/** The face of an image that was turned by `quarters` of 90° counterclockwise, in pixels of the image before that. */
export function turnedBack(face, quarters, width, height) {
  if (!quarters) return face;
  const back = ([x, y], w, h) => [null, [w - y, x], [w - x, h - y], [y, h - x]][quarters];
  const [x, y, w, h] = face.box;
  const corners = [back([x, y], width, height), back([x + w, y + h], width, height)];
  const [low, high] = [Math.min, Math.max].map((pick) =>
    [0, 1].map((axis) => pick(corners[0][axis], corners[1][axis])),
  );
  // A landmark is the center of a pixel, a corner of a box is not.
  const landmarks = face.landmarks.map((point) => back(point, width - 1, height - 1));
  return {...face, box: [...low, high[0] - low[0], high[1] - low[1]], landmarks, rotation: 90 * quarters};
}

export const rounded = (value, digits) => (value == null ? null : Number(value.toFixed(digits)));

/** The face as the API's JSON has it. `limits`: of kit.json. */
export function asJson(face, limits) {
  return {
    box: face.box.map((v) => rounded(v, 1)),
    score: rounded(face.score, 3),
    age: rounded(face.age, 1),
    age_low: rounded(face.age_low, 1),
    age_high: rounded(face.age_high, 1),
    gender: gender(face),
    gender_probability: rounded(genderProbability(face), 4),
    gender_label: apparentGender(face, limits),
    sharpness: rounded(face.sharpness, 3),
    yaw: rounded(yaw(face), 3),
    roll: rounded(roll(face), 1),
    cut_off: rounded(face.cut_off, 3),
    quality: quality(face, limits),
  };
}

/** An age as people are shown it; the same for the exact age and for the JSON's, which has one decimal. */
export const wholeYears = (age) => String(Math.floor(Number(age.toFixed(1)) + 0.5));
export const intervalYears = (face) => t(`${wholeYears(face.age_low)} to ${wholeYears(face.age_high)}`);
/** "female", "male", or "uncertain" where neither is likely enough at this estimated age and sharpness. */
const apparentGender = (face, {uncertain, soft, blurred_gender}) => {
  const [, limit] = uncertain.find(([below]) => face.age < below) ?? uncertain.at(-1);
  return genderProbability(face) >= (face.sharpness < soft ? Math.max(limit, blurred_gender) : limit)
    ? gender(face)
    : "uncertain";
};

// How well a face can be seen, as space/quality.py.

const along = ([[rx, ry], [lx, ly]]) => [lx - rx, ly - ry];
export function yaw({landmarks}) {
  if (!landmarks.length) return null;
  const [dx, dy] = along(landmarks),
    [[rx, ry], , [nx, ny]] = landmarks;
  return ((nx - rx) * dx + (ny - ry) * dy) / Math.max(dx * dx + dy * dy, 1e-6) - 0.5;
}
export function roll({landmarks}) {
  if (!landmarks.length) return null;
  const [dx, dy] = along(landmarks);
  return (Math.atan2(dy, dx) * 180) / Math.PI;
}
/** The share of a box beyond the edges of an image. */
export function cutOff([x, y, w, h], width, height) {
  const inside =
    Math.max(0, Math.min(x + w, width) - Math.max(x, 0)) * Math.max(0, Math.min(y + h, height) - Math.max(y, 0));
  return 1 - inside / Math.max(w * h, 1e-6);
}
/** "good", "maybe not a face", "small", "cut off", "blurred" or "turned". */
export function quality(face, {doubtful, soft, turned, small, cut_off}) {
  if (face.sharpness === undefined) return null;
  if (face.score < doubtful) return "maybe not a face";
  if (face.box[2] < small) return "small";
  if (face.cut_off > cut_off) return "cut off";
  if (face.sharpness < soft) return "blurred";
  return Math.abs(yaw(face) ?? 0) > turned ? "turned" : "good";
}
/** The probability of a gender beside its label. Rounding up an uncertain one could show the limit itself. */
export const shownPercent = ({gender_label: shown, gender_probability: p}, digits = 0) => {
  const unit = 10 ** (digits + 2);
  return percent(shown === "uncertain" ? Math.floor(unit * p + 1e-9) / unit : p, digits);
};
/** Of the API's JSON, as people are shown it: `female · 97%`, or `uncertain (62% female)`. */
export const confidence = (face) => {
  const {gender_label: shown, gender: likelier} = face,
    sure = shownPercent(face);
  return shown === "uncertain" ? `${t("uncertain")} (${sure} ${t(likelier)})` : `${t(shown)} · ${sure}`;
};
/** Of the API's JSON: `female, 31`. */
export const label = (face) => listed(t(face.gender_label), wholeYears(face.age));
