// Who is in a video, as space/video/annotator.py.
import {crop} from "./crop.js";
import {surest} from "./detector.js";
import {area, asJson, rounded, scaled} from "./face.js";
import {pixels} from "./photo.js";
import {Tracker} from "./tracker.js";

// Pixels, longer side at which frames are searched: the app's 1,024 take too long here, except where faces are hidden.
const SIDE = 640;
const LARGE = 96 ** 2; // square pixels from which a larger face makes no better thumbnail

export class People {
  /** `blurred`: whether small faces matter too, because they are to be hidden. */
  constructor(analyzer, kit, threshold, blurred = false) {
    const limits = {...kit.tracker, window: kit.video.max_answers, confirm: 1};
    Object.assign(this, {analyzer, kit, threshold, tracker: new Tracker(limits), before: [], persons: new Map()});
    Object.assign(this, {tracks: new Map(), counts: [], cuts: 0, last: {seconds: 0, faces: []}, speeds: new Map()});
    Object.assign(this, {side: blurred ? kit.detector.max_side : SIDE, votes: [], unsure: 0, faceless: 0});
  }

  /** Whether a frame is to be analyzed: some are in each second. */
  isDue(seconds) {
    const {rate, early} = this.kit.video;
    return !this.counts.length || seconds - this.last.seconds >= early / rate;
  }

  /** Whether a cut is taken as one: in a flickering video, each frame looks like a cut. */
  mayCut(seconds) {
    const {rate, max_cuts} = this.kit.video;
    return this.cuts < max_cuts + rate * seconds;
  }

  /** After a cut everyone is a new person, except where it was a flash and the old scene is back. */
  cut(isBack) {
    this.cuts++;
    if (isBack) this.tracker.tracks = this.before;
    else {
      this.before = this.tracker.tracks;
      this.tracker.cut();
      this.votes = [];
    }
    this.speeds.clear();
  }

  /** Analyze a frame; returns the faces to show, as the API's JSON, with the `id` of each person. */
  async look(canvas, seconds) {
    const {memory} = this.kit.tracker,
      {patience} = this.kit.video;
    // Videos with few frames per second must not forget between two of them.
    this.tracker.limits.memory = this.counts.length
      ? Math.max(memory, patience * (seconds - this.last.seconds))
      : memory;
    const [small, factor] = reduced(canvas, this.side);
    const found = await this.detect(small);
    const image = factor > 1 && found.length ? pixels(canvas) : small; // reading all pixels takes time
    const estimate = (faces) => this.analyzer.estimate(image, faces, {mirror: false}); // the tracker averages anyway
    const faces = await this.tracker.update(
      found.map((face) => scaled(face, factor)),
      seconds,
      estimate, // all of them: without an estimate, a face would be neither blurred nor counted
    );
    this.addScreenTime(seconds);
    this.measureSpeeds(faces, seconds);
    for (const track of this.tracker.tracks) this.tracks.set(track.id, track);
    for (const face of faces) this.note(face, image);
    this.counts.push([rounded(seconds, 3), faces.length]);
    this.last = {seconds, faces};
    return this.shown(faces);
  }

  /** The faces of a frame. Those with a sure face vote whether the scene's frames lie on their side. */
  async detect(image) {
    const {votes, unsure} = this.kit.video,
      decided = this.votes.length >= votes,
      {sure} = this.kit.detector;
    let quarters = decided ? mostFrequent(this.votes) : null;
    // Where there has been nobody for a while, most frames are searched upright only.
    if (!decided && this.faceless >= unsure && this.faceless % unsure) quarters = 0;
    const found = await this.analyzer.detect(image, this.threshold, {side: this.side, quarters});
    this.faceless = found.length ? 0 : this.faceless + 1;
    if (surest(found) >= sure) {
      this.unsure = 0;
      if (!decided) this.votes.push((found[0].rotation ?? 0) / 90);
    } else if (found.length || decided) {
      this.unsure++;
      if (this.unsure >= unsure) {
        this.votes = decided ? [] : Array(votes).fill(0);
        this.unsure = 0;
      }
    }
    return found;
  }

  /** The faces of a frame that isn't analyzed: each moves on as it did before. */
  at(seconds) {
    const passed = seconds - this.last.seconds;
    return this.shown(
      this.last.faces.map((face) => {
        const speed = this.speeds.get(face.id) ?? [0, 0, 0, 0];
        return {...face, box: face.box.map((v, i) => v + speed[i] * passed)};
      }),
    );
  }

  shown(faces) {
    return faces.map((face) => ({...asJson(face, this.kit.face), id: face.id}));
  }

  measureSpeeds(faces, seconds) {
    const then = new Map(this.last.faces.map(({id, box}) => [id, box])),
      passed = seconds - this.last.seconds;
    this.speeds.clear();
    for (const {id, box} of faces)
      if (then.has(id) && passed > 0)
        this.speeds.set(
          id,
          box.map((v, i) => (v - then.get(id)[i]) / passed),
        );
  }

  /** Who was shown in the last analyzed frame was on screen until now. */
  addScreenTime(seconds) {
    for (const {id} of this.last.faces) this.persons.get(id).on_screen += seconds - this.last.seconds;
  }

  note(face, image) {
    const person = this.persons.get(face.id) ?? {on_screen: 0, quality: 0},
      quality = face.score * Math.min(area(face), LARGE);
    person.face = face;
    if (quality > 1.1 * person.quality)
      Object.assign(person, {quality, crop: crop(image, face, this.analyzer.estimator.card.crop)});
    this.persons.set(face.id, person);
  }

  /** Everyone detected often enough, longest on screen first; the video ends at `seconds`. */
  table(seconds) {
    this.addScreenTime(seconds);
    this.last = {seconds, faces: []};
    const least = Math.min(this.kit.video.min_detections, this.counts.length);
    return [...this.persons]
      .filter(([id]) => this.tracks.get(id).seen >= least) // it is shown a little longer than it is detected
      .map(([id, {face, on_screen, crop}]) => {
        const {first, last} = this.tracks.get(id);
        // The sharpness of the last frame doesn't describe all frames.
        const whole = asJson({...face, sharpness: undefined}, this.kit.face);
        const {age, age_low, age_high, gender, gender_probability, gender_label} = whole;
        const times = {first: rounded(first, 2), last: rounded(last, 2), on_screen: rounded(on_screen, 2)};
        return {id, ...times, age, age_low, age_high, gender, gender_probability, gender_label, crop};
      })
      .sort((a, b) => b.on_screen - a.on_screen);
  }
}

const mostFrequent = (votes) =>
  votes.reduce((best, vote) => (times(votes, vote) > times(votes, best) ? vote : best), votes[0]);
const times = (votes, vote) => votes.filter((one) => one === vote).length;

/** The pixels of a canvas whose longer side is at most `side`, and the factor back. */
function reduced(canvas, side) {
  const factor = Math.max(1, Math.max(canvas.width, canvas.height) / side);
  if (factor === 1) return [pixels(canvas), 1];
  const [width, height] = [canvas.width, canvas.height].map((n) => Math.max(1, Math.round(n / factor)));
  const pen = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  pen.imageSmoothingQuality = "medium";
  pen.drawImage(canvas, 0, 0, width, height);
  return [pen.getImageData(0, 0, width, height), factor];
}
