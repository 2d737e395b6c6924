// One camera stream, as space/live/stream.py: frames in, tracked and smoothed faces out.
import {asJson} from "./face.js";
import {Tracker} from "./tracker.js";

export class LiveStream {
  constructor(analyzer, kit) {
    Object.assign(this, {analyzer, kit, tracker: new Tracker(kit.tracker), threshold: kit.detector.threshold});
  }

  /**
   * The people in a frame: {width, height, faces, detected}. Each of `faces` has an id and the API's values; `detected`
   * are the boxes of all faces, also of those that have no answer yet.
   */
  async answer(frame, seconds) {
    const {side, most_estimates} = this.kit.live;
    const found = await this.analyzer.detect(frame, this.threshold, {side, quarters: 0});
    // One look a face: the tracker averages over frames anyway.
    const estimate = (some) => this.analyzer.estimate(frame, some, {mirror: false});
    const faces = await this.tracker.update(found, seconds, estimate, most_estimates);
    const {width, height} = frame;
    const shown = faces.map((face) => ({...asJson(face, this.kit.face), id: face.id}));
    return {width, height, faces: shown, detected: found.map(({box}) => box)};
  }
}
