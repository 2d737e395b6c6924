// The analysis, off the page's thread. Messages: {id, call, arguments} → {id, answer | error}; {progress} while a model loads.
import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import {FaceAnalyzer} from "./analyze.js";
import {YuNet} from "./detect.js";
import {Estimator} from "./estimate.js";
import {asJson} from "./face.js";
import {LiveStream} from "./live.js";

const here = new URL(".", import.meta.url);
ort.env.wasm.wasmPaths = {wasm: new URL("ort/ort-wasm-simd-threaded.wasm", here).href};
// Threads share memory, which browsers allow only to pages that no other site can look into.
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;

let kit, detector, live;
const analyzers = {};

/** A file of the site; tells the page how much has arrived where `told`. */
async function download(path, told = false) {
  const response = await fetch(new URL(path, here));
  if (!response.ok) throw new Error(`${path} can't be downloaded (status ${response.status}). Check the network and try again.`);
  if (!told) return response;
  const parts = [], size = Number(kit.bytes[path]) || 0;
  let received = 0;
  for (const reader = response.body.getReader(); ;) {
    const {done, value} = await reader.read();
    if (done) return new Blob(parts);
    parts.push(value);
    received += value.length;
    postMessage({progress: size ? received / size : 0});
  }
}

const open = async (file) => ort.InferenceSession.create(await file.arrayBuffer(), {executionProviders: ["wasm"], logSeverityLevel: 3});

async function analyzer(model) {
  analyzers[model] ??= (async () => {
    const folder = `models/${model}`, [card, file] = [await (await download(`${folder}/age_gender.json`)).json(), await download(`${folder}/model.onnx`, true)];
    return new FaceAnalyzer(detector, new Estimator(await open(file), ort.Tensor, card, kit.calibration.oldest), kit.analyzer);
  })();
  try {
    return await analyzers[model];
  } catch (error) {
    delete analyzers[model];  // the next try may find the network again
    throw error;
  }
}

const calls = {
  async load(model) {
    kit ??= await (await download("kit.json")).json();
    detector ??= new YuNet(await open(await download("yunet.onnx")), ort.Tensor, kit.detector);
    await analyzer(model);
    return kit;
  },
  async analyze(image, model, threshold) {
    const chosen = await analyzer(model), started = performance.now();
    const faces = await chosen.analyze(image, threshold);
    return {faces, elapsed_ms: Math.round(10 * (performance.now() - started)) / 10};
  },
  async live(frame, model, threshold, seconds) {
    live ??= new LiveStream(await analyzer(model), kit);
    live.analyzer = await analyzer(model);
    live.threshold = threshold;
    return live.answer(frame, seconds);
  },
  stop() { live = null; },
};

// One after another: a session runs one call at a time.
let before = Promise.resolve();
onmessage = ({data: {id, call, values}}) => {
  before = before.then(async () => {
    try {
      postMessage({id, answer: await calls[call](...values)});
    } catch (error) {
      postMessage({id, error: error.message || String(error)});
    }
  });
};
