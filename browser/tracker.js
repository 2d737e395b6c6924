// The same face over time, as space/tracker.py: who is who, calm boxes, and answers smoothed over frames. `limits` are that
// module's constants, from kit.json.
import {area, center} from "./face.js";

export class Tracker {
  constructor(limits) {
    Object.assign(this, {limits, tracks: [], count: 0, now: -Infinity});
  }

  /**
   * Take the faces of the next frame; returns those to show, which have an answer, with `id`, boxes and answers smoothed.
   * `estimate`: fills in age and gender of some of the faces; at most `most` of them, those whose last answer is oldest.
   */
  async update(faces, seconds, estimate, most = Infinity) {
    const {memory, hold_seconds, confirm} = this.limits;
    this.now = seconds = Math.max(seconds, this.now);
    this.tracks = this.tracks.filter((track) => seconds - track.last <= memory);
    const pairs = assign(this.tracks, faces, seconds, this.limits);
    const present = faces.map((face, i) => {
      if (!pairs.has(i)) return this.begin(face, seconds);
      pairs.get(i).follow(face, seconds);
      return pairs.get(i);
    });
    const due = present.sort((a, b) => a.answered - b.answered || area(b.face) - area(a.face)).slice(0, most);
    const answers = due.length ? await estimate(due.map((track) => track.face)) : [];
    due.forEach((track, i) => {
      if (track.isSomebodyElse(answers[i], seconds)) {
        this.tracks = this.tracks.filter((other) => other !== track);
        const other = this.begin(track.face, seconds);
        other.seen = track.doubts.length;
        other.first = track.last = track.doubts[0][0];
        for (const [when, answer] of track.doubts) {
          other.learn(answer);
          other.answered = when;
        }
      } else if (!track.doubts.length) track.learn(answers[i]); // a contradicting answer waits until its person is known
    });
    const shown = this.tracks.filter(
      (track) => track.shown && track.seen >= confirm && seconds - track.last <= hold_seconds,
    );
    return shown.map((track) => track.asFace());
  }

  /** Forget everyone: after a cut in a video, the next face at the same place is another person's. */
  cut() {
    this.tracks = [];
  }

  begin(face, seconds) {
    this.tracks.push(new Track(++this.count, face, seconds, this.limits));
    return this.tracks.at(-1);
  }
}

/** One person from first to last sight. */
class Track {
  constructor(id, face, seconds, limits) {
    Object.assign(this, {id, face, limits, box: placed(face), speed: [0, 0], answers: []});
    Object.assign(this, {first: seconds, last: seconds, seen: 1}); // when it was detected, and how often
    Object.assign(this, {answered: -Infinity, shown: null, doubts: []});
  }

  /** Move on to where the face is now. One Euro filter (Casiez, Roussel & Vogel 2012). */
  follow(face, seconds) {
    const {cutoff, cutoff_speed} = this.limits,
      step = Math.max(seconds - this.last, 1e-3),
      now = placed(face);
    this.speed = this.speed.map((speed, i) => speed + share(step, cutoff) * ((now[i] - this.box[i]) / step - speed));
    const widths = Math.hypot(...this.speed) / Math.max(face.box[2], 1);
    this.box = this.box.map((v, i) => v + share(step, cutoff + cutoff_speed * widths) * (now[i] - v));
    Object.assign(this, {face, last: seconds, seen: this.seen + 1});
  }

  /** Take one more answer into account: the weighted median, which no single bad frame can move. */
  learn(face) {
    this.seenAs = {sharpness: face.sharpness, cut_off: face.cut_off};
    const {window, calm_age, calm_gender} = this.limits;
    this.answers.push([
      face.score / (1 + face.age_high - face.age_low) ** 2,
      face.age,
      face.age_low,
      face.age_high,
      face.p_female,
    ]);
    if (this.answers.length > window) this.answers.shift();
    const weights = this.answers.map((row) => row[0]);
    const [age, age_low, age_high, p_female] = [1, 2, 3, 4].map((column) =>
      weightedMedian(
        this.answers.map((row) => row[column]),
        weights,
      ),
    );
    if (
      !this.shown ||
      Math.abs(age - this.shown.age) >= calm_age ||
      Math.abs(p_female - this.shown.p_female) >= calm_gender
    ) {
      this.shown = {age, age_low, age_high, p_female};
    }
  }

  /** Whether this answer and those before it are another person's; an answer that fits ends the doubt. */
  isSomebodyElse(face, seconds) {
    const {swap_seconds, swap_answers, other_age, other_gender} = this.limits;
    this.answered = seconds;
    if (this.answers.length > swap_answers) {
      // before that nothing is sure enough to be contradicted
      const {age, p_female: p} = this.shown,
        now = face.p_female;
      const flipped = Math.min(now, 1 - p) >= other_gender || Math.min(1 - now, p) >= other_gender;
      if (flipped || Math.abs(face.age - age) > other_age) {
        this.doubts.push([seconds, face]);
        return this.doubts.length >= swap_answers && seconds - this.doubts[0][0] >= swap_seconds;
      }
    }
    this.doubts = [];
    return false;
  }

  /** The person as shown. */
  asFace() {
    const [x, y, width, height] = this.box;
    return {
      ...this.face,
      ...this.seenAs,
      ...this.shown,
      box: [x - width / 2, y - height / 2, width, height],
      id: this.id,
    };
  }
}

/** Whose each face is: the pairs of least total cost among those that are near enough. Index in `faces` → track. */
function assign(tracks, faces, seconds, {search_growth}) {
  const pairs = new Map();
  if (!tracks.length || !faces.length) return pairs;
  const FAR = 1e6;
  const costs = tracks.map((track) =>
    faces.map((face) => {
      const gap = seconds - track.last,
        ahead = Math.min(gap, 0.3),
        then = [...track.box],
        now = placed(face);
      then[0] += track.speed[0] * ahead;
      then[1] += track.speed[1] * ahead;
      const [before, after] = [then, now].map((box) => (box[2] + box[3]) / 2);
      const distance = Math.hypot(then[0] - now[0], then[1] - now[1]) / ((before + after) / 2);
      const growth = Math.abs(Math.log(before / after));
      if (distance > 1 + search_growth * gap || growth > 0.6 + gap) return FAR;
      return distance + growth + (1 - overlap(then, now));
    }),
  );
  leastCost(costs).forEach((column, row) => {
    if (costs[row][column] < FAR) pairs.set(column, tracks[row]);
  });
  return pairs;
}

/** For each row the column of the assignment of least total cost, or -1 (Kuhn 1955; with potentials, Jonker & Volgenant 1987). */
export function leastCost(costs) {
  const rows = costs.length,
    columns = costs[0].length;
  if (rows > columns) {
    // each row must find a column
    const turned = leastCost(costs[0].map((_, column) => costs.map((row) => row[column])));
    return costs.map((_, row) => turned.indexOf(row));
  }
  const u = new Float64Array(rows + 1),
    v = new Float64Array(columns + 1),
    owner = new Int32Array(columns + 1),
    way = new Int32Array(columns + 1);
  for (let row = 1; row <= rows; row++) {
    const least = new Float64Array(columns + 1).fill(Infinity),
      used = new Uint8Array(columns + 1);
    let column = 0;
    owner[0] = row;
    do {
      used[column] = 1;
      let delta = Infinity,
        next = 0;
      for (let j = 1; j <= columns; j++) {
        if (used[j]) continue;
        const cost = costs[owner[column] - 1][j - 1] - u[owner[column]] - v[j];
        if (cost < least[j]) [least[j], way[j]] = [cost, column];
        if (least[j] < delta) [delta, next] = [least[j], j];
      }
      for (let j = 0; j <= columns; j++)
        if (used[j]) {
          u[owner[j]] += delta;
          v[j] -= delta;
        } else least[j] -= delta;
      column = next;
    } while (owner[column]);
    for (; column; column = way[column]) owner[column] = owner[way[column]];
  }
  const answer = new Array(rows).fill(-1);
  for (let j = 1; j <= columns; j++) if (owner[j]) answer[owner[j] - 1] = j - 1;
  return answer;
}

/** The box's middle, width and height. */
const placed = (face) => [...center(face), face.box[2], face.box[3]];

/** How far a low-pass filter of `cutoff` Hz goes towards the new value in `step` seconds. */
const share = (step, cutoff) => 1 / (1 + 1 / (2 * Math.PI * cutoff * step));

/** The value at which half of the weights lies on either side. */
function weightedMedian(values, weights) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const half = weights.reduce((sum, weight) => sum + weight, 0) / 2;
  let sum = 0;
  for (const i of order) {
    sum += weights[i];
    if (sum >= half) return values[i];
  }
  return values[order.at(-1)];
}

/** Intersection over union of two boxes (middle and sides). */
function overlap(a, b) {
  const [width, height] = [0, 1].map((axis) =>
    Math.max(
      0,
      Math.min(a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2) -
        Math.max(a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2),
    ),
  );
  return (width * height) / (a[2] * a[3] + b[2] * b[3] - width * height);
}
