// The analysis, off the page's thread. Messages: {id, call, values} → {id, answer | error, broken}; {progress} meanwhile.
import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import {FaceAnalyzer} from "./analyzer.js";
import {annotate} from "./annotate.js";
import {YuNet} from "./detector.js";
import {Estimator} from "./estimator.js";
import {rounded} from "./face.js";
import {LiveStream} from "./live.js";
import {People} from "./people.js";
import {SceneCuts} from "./scenes.js";
import {speak, t} from "./text.js";

const PREVIEW_EVERY = 150; // ms between two frames of a video that are shown while it is analyzed

const here = new URL(".", import.meta.url);
// Threads share memory, which browsers allow only to pages that no other site can look into.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;

// ONNX Runtime asks for memory that may grow to 4 GiB. Phones refuse that much; what the networks need is below 256 MiB.
const Memory = WebAssembly.Memory,
  PAGE = 65_536,
  LEAST = 268_435_456 / PAGE;
const noMemory = () =>
  t("This device has too little free memory for the analysis. Close other tabs, then reload the page.");
function SmallerMemory(wish) {
  for (let {maximum} = wish; ; maximum = Math.floor(maximum / 2)) {
    try {
      return new Memory({...wish, maximum});
    } catch (error) {
      if (!(maximum / 2 >= LEAST)) throw new Error(noMemory(), {cause: error});
    }
  }
}
SmallerMemory.prototype = Memory.prototype;
WebAssembly.Memory = SmallerMemory;

/** A file that didn't arrive; the next try may find the network again. `updated`: the site has no such file any more. */
class DownloadError extends Error {
  constructor(message, updated = false) {
    super(message);
    this.updated = updated;
  }
}

const loading = {}; // what is loaded once: name → promise
function once(name, load) {
  loading[name] ??= load().catch((error) => {
    delete loading[name];
    throw error;
  });
  return loading[name];
}

const received = {},
  expected = {}; // bytes of the files on their way
function progress() {
  const sum = (sizes) => Object.values(sizes).reduce((a, b) => a + b, 0);
  postMessage({progress: sum(expected) ? {received: sum(received), expected: sum(expected)} : null});
}

/** A file of the site as bytes. `size`: in bytes, for the progress. */
async function download(path, size = 0) {
  expected[path] = size;
  try {
    const response = await fetch(new URL(path, here));
    if (response.status === 404) throw new DownloadError(t("This page has been updated. Reload it to continue."), true);
    if (!response.ok)
      throw new DownloadError(
        t("{path} can't be downloaded (status {status}). Try again later.", {path, status: response.status}),
      );
    const parts = [];
    received[path] = 0;
    for (const reader = response.body.getReader(); ; ) {
      const {done, value} = await reader.read();
      if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
      parts.push(value);
      received[path] += value.length;
      progress();
    }
  } catch (error) {
    if (error instanceof DownloadError) throw error;
    throw new DownloadError(t("{path} can't be downloaded. Check the network, then try again.", {path}));
  } finally {
    delete expected[path];
    delete received[path];
    progress();
  }
}

/** What was in a gzip file, which some servers have unpacked already. */
async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const json = async (path) => JSON.parse(new TextDecoder().decode(await download(path)));
const open = (file) => ort.InferenceSession.create(file, {executionProviders: ["wasm"], logSeverityLevel: 3});
const kit = () => once("kit", () => json("kit.json"));

const detector = () =>
  once("detector", async () => {
    const {bytes, runtime, detector: limits} = await kit();
    const [packed, network] = await Promise.all([runtime, "yunet.onnx"].map((path) => download(path, bytes[path])));
    try {
      ort.env.wasm.wasmBinary = await unpacked(packed);
      return new YuNet(await open(network), ort.Tensor, limits);
    } catch (error) {
      throw Object.assign(error, {broken: true}); // ONNX Runtime doesn't recover from a failed start
    }
  });

const analyzer = (name) =>
  once(`model ${name}`, async () => {
    const {models, bytes, analyzer: limits, tilt, calibration} = await kit(),
      {folder} = models.find((model) => model.name === name);
    const path = `${folder}/model.onnx`;
    const [card, network, eyes] = await Promise.all([
      json(`${folder}/age_gender.json`),
      download(path, bytes[path]),
      detector(),
    ]);
    const session = await open(network).catch((cause) => {
      throw new Error(
        t("The model {name} can't be opened. This device may have too little memory: choose another model.", {name}),
        {cause},
      );
    });
    return new FaceAnalyzer(eyes, new Estimator(session, ort.Tensor, card, calibration), limits, tilt);
  });

// A session runs one call at a time; downloads don't wait for it.
let before = Promise.resolve();
function inTurn(work) {
  const mine = before.then(work);
  before = mine.catch(() => {});
  return mine;
}

let live = null,
  newest = 0,
  video = new AbortController();
const calls = {
  /** The page's language, for errors. */
  async speak(code, texts) {
    speak(code, texts);
  },
  async load(model) {
    await analyzer(model);
  },
  /** The first runs take longer: before the camera starts, on gray. */
  async warmUp(model) {
    const chosen = await analyzer(model),
      gray = {data: new Uint8ClampedArray(4 * 640 * 480).fill(128), width: 640, height: 480};
    const {side} = (await kit()).live,
      face = {
        box: [200, 120, 200, 240],
        landmarks: [
          [260, 200],
          [340, 200],
          [300, 250],
          [270, 300],
          [330, 300],
        ],
      };
    await inTurn(async () => {
      await chosen.detect(gray, 0.9, {side, quarters: 0});
      await chosen.estimate(gray, [face], {mirror: false});
    });
  },
  async analyze(image, model, threshold) {
    const number = ++newest,
      chosen = await analyzer(model);
    // Nobody waits for a photo that another one has replaced.
    const stopped = async () => {
      await new Promise((done) => setTimeout(done)); // newer messages come between tasks only
      return number !== newest;
    };
    return inTurn(async () => {
      if (await stopped()) throw new Error("The analysis was stopped.");
      const started = performance.now();
      const faces = await chosen.analyze(image, threshold, stopped);
      return {faces, elapsed_ms: Math.round(10 * (performance.now() - started)) / 10};
    });
  },
  async live(frame, model, threshold, seconds) {
    const [chosen, values] = [await analyzer(model), await kit()];
    return inTurn(() => {
      live ??= new LiveStream(chosen, values);
      Object.assign(live, {analyzer: chosen, threshold});
      return live.answer(frame, seconds);
    });
  },
  async stop() {
    live = null;
  },
  /**
   * A video file, or a port that gives its frames → {blob, people, …}; meanwhile {video: {run, share, picture}}, where
   * the picture is an annotated frame.
   */
  async video(source, run, model, threshold, blurred) {
    video.abort();
    video = new AbortController();
    const {signal} = video,
      started = performance.now(),
      [chosen, values] = [await analyzer(model), await kit()],
      reader = source instanceof MessagePort ? "./video-element.js" : "./video-file.js",
      {annotateFrames} = await import(reader).catch(() => {
        const error = new DownloadError(t("Part of the page can't be downloaded. Check the network, then try again."));
        throw Object.assign(error, {broken: true}); // Firefox's workers remember a failed import
      });
    signal.throwIfAborted();
    const people = new People(chosen, values, threshold, blurred),
      scenes = new SceneCuts(values.video);
    let share = 0,
      shown = 0;
    const written = await annotateFrames(source, {
      signal,
      side: values.video.side,
      progress(value) {
        share = value;
      },
      async annotate(pen, seconds) {
        const cut = scenes.isCut(pen.canvas) && people.mayCut(seconds);
        if (cut) people.cut(scenes.isBack());
        // Blurred, no face may be seen for a moment: each frame is analyzed.
        const look = cut || blurred || people.isDue(seconds);
        const faces = look ? await inTurn(() => people.look(pen.canvas, seconds)) : people.at(seconds);
        annotate(pen, faces, {colors: values.colors, blurred});
        if (!look || performance.now() - shown < PREVIEW_EVERY) return;
        shown = performance.now();
        const picture = await createImageBitmap(pen.canvas);
        postMessage({video: {run, share, picture}}, [picture]);
      },
    });
    const found = people.table(written.seconds);
    return {
      ...written,
      seconds: rounded(written.seconds, 3),
      people: found,
      faces_over_time: people.counts,
      analyzed: people.counts.length,
      elapsed_ms: Math.round(performance.now() - started),
    };
  },
  async stopVideo() {
    video.abort(new Error("The analysis was canceled."));
  },
};

self.onmessage = async ({data: {id, call, values}}) => {
  try {
    postMessage({id, answer: await calls[call](...values)});
  } catch (error) {
    const aborted = [error, error.cause].some((one) => one instanceof WebAssembly.RuntimeError); // it doesn't recover
    const broken = error.updated ? "updated" : Boolean(error.broken) || aborted; // then the page starts a new worker
    postMessage({id, error: aborted ? noMemory() : error.message || String(error), broken});
  }
};
