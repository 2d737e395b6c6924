// The page: photo, live, video and about. Analysis runs in worker.js; nothing that a visitor chooses leaves this browser.
import {MOST} from "./cards.js";
import {asJson, scaled} from "./face.js";
import {openPhoto, pixels, withheld} from "./photo.js";
import {scrollTo} from "./scroll.js";
import {number, spoken, t} from "./text.js";
import {fromJson, resultView} from "./result.js";
import {photoStrip} from "./strip.js";
import liveView from "./live-view.js";
import {videoTab} from "./video.js";

const $ = (selector) => document.querySelector(selector);
const kit = await (await fetch("kit.json")).json();
let model = kit.models[0].name;
for (const [name, color] of Object.entries(kit.colors)) document.documentElement.style.setProperty(`--${name}`, color);
const view = resultView($("#result"), {...kit, most: kit.detector.max_faces});

// Worker

let worker = null,
  calls = 0;
const waiting = new Map();

function startWorker() {
  // Through a blob: such a worker is under the page's Content-Security-Policy, one from a file isn't.
  const script = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
  worker = new Worker(URL.createObjectURL(new Blob([script], {type: "text/javascript"})), {type: "module"});
  worker.onmessage = async ({data: {id, answer, error, broken, progress: bytes, video: frame}}) => {
    if (bytes !== undefined) return progress(bytes);
    if (frame) return video.show(frame);
    const {done, failed} = waiting.get(id);
    waiting.delete(id);
    if (broken === "updated") await newVersion();
    if (error === undefined) done(answer);
    else failed(new Error(error));
    if (broken === true) stopWorker(error);
  };
  worker.onerror = () =>
    stopWorker(
      t("The analysis can't start: part of the page is missing, or this browser lacks WebAssembly. Try again."),
    );
  call("speak", spoken()).catch(() => {});
}

/** End the worker with all that waits for it; the next call starts a new one. */
function stopWorker(reason) {
  worker.terminate();
  worker = null;
  for (const {failed} of waiting.values()) failed(new Error(reason));
  waiting.clear();
  progress(null);
}

function call(name, values = [], transfer = []) {
  if (["analyze", "live", "video"].includes(name) && withheld())
    return Promise.reject(
      new Error(
        t(
          "This browser withholds image data from web pages, so nothing can be analyzed. Allow this page to read canvas data, or use another browser.",
        ),
      ),
    );
  if (!worker) startWorker();
  return new Promise((done, failed) => {
    waiting.set(++calls, {done, failed});
    worker.postMessage({id: calls, call: name, values}, transfer);
  });
}

/** The site has changed since this page was loaded: wait until the service worker has it, so that one reload is enough. */
async function newVersion() {
  const registration = await navigator.serviceWorker?.getRegistration();
  await registration?.update().catch(() => {});
  const coming = registration?.installing ?? registration?.waiting;
  if (!coming) return;
  const activated = new Promise((done) =>
    coming.addEventListener("statechange", () => coming.state === "activated" && done()),
  );
  await Promise.race([activated, new Promise((done) => setTimeout(done, 10_000))]);
}

/** Show how much of the files on their way has arrived, in bytes; null: none is on its way. */
function progress(bytes) {
  $("#loading").hidden = !bytes;
  if (!bytes) return;
  $("#loading progress").value = bytes.received / bytes.expected;
  $("#loaded").textContent = t(`${(bytes.received / 1e6).toFixed(1)} of ${(bytes.expected / 1e6).toFixed(1)} MB`);
}

// Photo

function say(text) {
  $("#message").textContent = text;
  $("#message").hidden = !text;
  if (text) $("#message").scrollIntoView({block: "nearest"});
}

/** Analyze a photo; the answer is what `view.show` takes. `replaced` tells whether nobody waits for it any more. */
async function analyze(file, replaced) {
  const photo = await opened(file),
    {canvas, factor, name} = photo,
    chosen = model;
  if (replaced()) throw new Error("The photo was replaced."); // in the worker, it would stop its successor
  if (strip.current.file === file) {
    if (!view.shows(file)) {
      view.preview(canvas, file);
      scrollToResult();
    }
    view.wait(t($("#loading").hidden ? "Analyzing…" : "Loading the model…"));
  }
  const {data, width, height} = pixels(canvas);
  const {faces, elapsed_ms} = await call("analyze", [{data, width, height}, chosen, threshold()], [data.buffer]);
  const answer = {
    faces: faces.map((face) => asJson(scaled(face, factor), kit.face)),
    rotation: faces[0]?.rotation ?? 0,
    incomplete: null, // browsers don't tell
    model: kit.models.find((one) => one.name === chosen).about,
    detector: "yunet",
    elapsed_ms,
  };
  const probabilities = faces.map((face) => face.age_probs && [...face.age_probs]);
  return {
    image: canvas,
    name,
    answer,
    factor,
    probabilities,
    thumbnails: faces.slice(0, MOST).map(({crop}, i) => thumbnail(crop, t(`Face ${i + 1}`))),
  };
}

const photos = new WeakMap(); // the example's file → the photo in it
const opened = async (file) => photos.get(file) ?? openPhoto(file);

let refused = false; // whether the message is about files that weren't taken: it stays until others are

/** Show a photo's result, or why there is none, or that there is none yet. */
function choose({file, shown, error}) {
  if (error) refused = false;
  if (!refused) say(error ?? "");
  if (!view.shows(file)) view.clear();
  if (shown) {
    view.show(shown, file);
    const {width, height} = shown.image;
    if (shown.factor > 1 && !shown.reduced)
      view.note(
        t(
          `The image was reduced to ${width} × ${height} pixels. Positions in JSON and CSV refer to the original image.`,
        ),
      );
  } else if (error) view.clear();
  else view.wait(t("Waiting…"));
}
const strip = photoStrip($("#strip"), kit, {analyze, open: opened}, choose);

let asked = 0; // number of the last choice of photos

function take(files, {adds = false} = {}) {
  asked++;
  refused = false;
  if (adds) strip.add(files);
  else strip.take(files);
  scrollToResult();
}

/** On a phone, the result is below the fold. */
function scrollToResult() {
  if (innerWidth < 800) setTimeout(() => scrollTo($("#result")), 100);
}

const PAUSE = 300; // ms to wait after the last change of the threshold before applying it
const threshold = () => Number($("#threshold").value);

/** A canvas with a face's crop, RGB bytes. */
function thumbnail(crop, name) {
  const side = Math.sqrt(crop.length / 3),
    canvas = document.createElement("canvas"),
    image = new ImageData(side, side);
  canvas.width = canvas.height = side;
  canvas.role = "img";
  canvas.ariaLabel = name;
  for (let i = 0, at = 0; i < crop.length; i += 3, at += 4)
    image.data.set([crop[i], crop[i + 1], crop[i + 2], 255], at);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

for (const input of ["#file", "#camera"])
  $(input).addEventListener("change", ({target}) => {
    open([...target.files]);
    target.value = "";
  });
/** Open files that arrive anywhere on the page. `adds`: beside the photos that are there. */
function open(files, options) {
  if (!files.length) return;
  const videos = [...files].filter(
    (file) => file.type.startsWith("video/") || /\.(mkv|mov|mp4|m4v|webm)$/i.test(file.name),
  );
  openTab(tabs.find(({dataset}) => dataset.tab === (videos.length ? "video" : "photo")));
  // Browsers don't know the type of some images.
  const images = [...files].filter((file) => !videos.includes(file) && (!file.type || file.type.startsWith("image/")));
  if (!videos.length && !images.length) {
    refused = true;
    return say(t("This file isn't an image that this browser can read. Use JPEG, PNG or WebP."));
  }
  document.body.dataset.own = "yes";
  if (videos.length)
    video.take(videos[0], videos.length > 1 ? t(`Only the first of ${videos.length} videos is analyzed.`) : "");
  if (images.length) take(images, options);
  const left = files.length - videos.length - images.length;
  if (left && !videos.length) {
    refused = true;
    say(t(left === 1 ? "1 file isn't an image and wasn't opened." : `${left} files aren't images and weren't opened.`));
  }
}
/** Say on the Photo tab that links can't be opened. */
function refuseLink() {
  openTab(tabs.find(({dataset}) => dataset.tab === "photo"));
  refused = true;
  say(t("Links can't be opened. Copy the image itself, or save it and choose the file."));
}
document.addEventListener("paste", ({clipboardData}) => {
  if (clipboardData.files.length) open(clipboardData.files, {adds: true});
  else if (/^https?:/.test(clipboardData.getData("text"))) refuseLink();
});
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  for (const zone of document.querySelectorAll(".drop")) zone.classList.add("over");
});
let own = false; // whether the drag started on this page, for example from a thumbnail or selected text
document.addEventListener("dragstart", () => {
  own = true;
});
// An element that is removed while it is dragged gets no "dragend". Pointers don't move during a drag.
for (const kind of ["dragend", "pointermove"])
  document.addEventListener(kind, () => {
    own = false;
  });
const leave = () => {
  for (const zone of document.querySelectorAll(".drop")) zone.classList.remove("over");
};
document.addEventListener("dragleave", leave);
document.addEventListener("drop", (event) => {
  event.preventDefault();
  leave();
  if (own) return;
  const folders = [...event.dataTransfer.items]
    .filter(({kind}) => kind === "file")
    .map((item) => item.webkitGetAsEntry()?.isDirectory);
  const files = [...event.dataTransfer.files].filter((_, i) => !folders[i]);
  if (files.length) open(files);
  else if (folders.length) {
    openTab(tabs.find(({dataset}) => dataset.tab === "photo"));
    refused = true;
    say(t("Folders can't be opened. Choose the images in the folder."));
  } else if (/^https?:/.test(event.dataTransfer.getData("text"))) refuseLink();
});
document.addEventListener("snapshot", ({detail}) => open([detail], {adds: true}));
async function exampleFile(address) {
  const response = await fetch(address).catch(() => ({ok: false}));
  if (!response.ok) throw new Error(t("The example can't be downloaded. Check the network, then try again."));
  return Object.assign(new File([await response.blob()], address.split("/").at(-1)), {example: true});
}
for (const example of document.querySelectorAll("#examples button"))
  example.addEventListener("click", async () => {
    const mine = ++asked;
    let file;
    try {
      file = await exampleFile(example.querySelector("img").src);
    } catch (error) {
      if (mine === asked) {
        refused = true;
        say(error.message);
      }
    }
    if (file && mine === asked) take([file]); // else the visitor has chosen something else meanwhile
  });
$("#threshold").addEventListener("input", () => {
  $("#threshold-value").textContent = number(threshold(), 2);
});
let changed = null; // a timer: each key changes the threshold by a step
$("#threshold").addEventListener("change", () => {
  clearTimeout(changed);
  changed = setTimeout(() => strip.again(), PAUSE);
});
$("#blur").addEventListener("change", ({target}) => {
  view.blur(target.checked);
  strip.blur(target.checked);
});

// Models

for (const {name, title} of kit.models) {
  const choice = document.createElement("label"),
    input = document.createElement("input");
  Object.assign(input, {type: "radio", name: "model", value: name, checked: name === model, autocomplete: "off"});
  input.addEventListener("change", () => chooseModel(name));
  choice.append(input, ` ${name}: ${t(title)}`);
  $("#models").append(choice);
}
$("#models").hidden = kit.models.length < 2;

let wanted = model,
  waits = false; // whether the result waits for a model alone
async function chooseModel(name) {
  wanted = name;
  say("");
  if (strip.current?.shown && !$("#result").hasAttribute("aria-busy")) {
    waits = true;
    view.wait(t("Loading the model…"));
  }
  try {
    await call("load", [name]);
  } catch (error) {
    if (wanted !== name) return;
    wanted = model;
    $(`#models input[value="${model}"]`).checked = true;
    if (waits && strip.current?.shown) view.wait(""); // else another analysis has begun
    waits = false;
    return say(error.message);
  }
  if (wanted !== name) return; // while it was loaded, another one was chosen
  model = name;
  waits = false;
  await strip.again();
}

// Live

// The first model, which is the quickest: Live needs many answers a second.
function openChannel(told) {
  const [{name: model}] = kit.models;
  let score = kit.detector.threshold,
    open = true;
  call("load", [model]).then(told.open, (error) => told.close(error.message));
  return {
    busy: false,
    async send(frame, canvas) {
      const {data, width, height} = pixels(canvas);
      call("live", [{data, width, height}, model, score, performance.now() / 1000], [data.buffer]).then(
        (answer) => open && told.answer({frame, ...answer}),
        (error) => open && told.close(error.message),
      );
      return true;
    },
    tune(value) {
      score = value;
    },
    close() {
      open = false;
      call("stop");
    },
  };
}
liveView($("#live-tab"), openChannel);

// Video, with the same model

const {name: fastest, about} = kit.models[0];
const video = videoTab($("#video"), {call, model: fastest, about, rate: kit.video.rate, thumbnail});

// Tabs, with a link for each

const tabs = [...document.querySelectorAll("[role=tab]")];
function openTab(tab, {remember = true} = {}) {
  if (tab.ariaSelected === "true") return;
  for (const one of tabs) {
    one.ariaSelected = String(one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    $(`#${one.getAttribute("aria-controls")}`).hidden = one !== tab;
  }
  $(".video-out").pause(); // out of sight, it would play on
  const address = new URL(location.href);
  address.searchParams.set("tab", tab.dataset.tab);
  if (remember) history.pushState(null, "", address);
}
for (const [i, tab] of tabs.entries()) {
  tab.addEventListener("click", () => openTab(tab));
  tab.addEventListener("keydown", ({key, altKey, ctrlKey, metaKey}) => {
    const place = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: -1}[key];
    if (place === undefined || altKey || ctrlKey || metaKey) return;
    const next = tabs.at(place % tabs.length);
    next.focus();
    openTab(next);
  });
}
function openNamed() {
  openTab(tabs.find((tab) => tab.dataset.tab === new URLSearchParams(location.search).get("tab")) ?? tabs[0], {
    remember: false,
  });
}
addEventListener("popstate", openNamed);
openNamed();

// Start

$("#tab-live").addEventListener("click", () => call("warmUp", [kit.models[0].name]).catch(() => {}), {once: true});
// A visitor sees a result before anything is loaded.
try {
  const example = await fromJson(JSON.parse($("#example").textContent));
  const file = await exampleFile($("#examples img").src);
  photos.set(file, {canvas: example.image, factor: example.factor, name: example.name});
  if (!strip.current) strip.take([file], [example]);
  document.body.dataset.shown = "yes";
  await call("load", [model]);
} catch (error) {
  say(error.message);
} finally {
  progress(null);
  document.body.dataset.ready = "yes";
}
// After that: it fetches the files once more, for visits without a network.
if ("serviceWorker" in navigator && isSecureContext)
  navigator.serviceWorker.register("service-worker.js").catch(() => {});
