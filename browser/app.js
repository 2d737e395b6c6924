// The page: photo, live and about. Analysis runs in worker.js; nothing that a visitor chooses leaves this browser.
import {draw} from "./annotate.js";
import {MOST, cards, summary} from "./cards.js";
import {asCsv, asResult, save} from "./downloads.js";
import {scaled} from "./face.js";
import {openPhoto, pixels} from "./photo.js";
import startLive from "./live-page.js";

const $ = (selector) => document.querySelector(selector);
const kit = await (await fetch("kit.json")).json();
let model = kit.models[0].name, current = null, shown = null;

// Worker

let worker = null, number = 0;
const waiting = new Map();

function startWorker() {
  // Through a blob: such a worker is under the page's Content-Security-Policy, one from a file isn't.
  const script = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
  worker = new Worker(URL.createObjectURL(new Blob([script], {type: "text/javascript"})), {type: "module"});
  worker.onmessage = async ({data: {id, answer, error, broken, progress: share}}) => {
    if (share !== undefined) return progress(share);
    const {done, failed} = waiting.get(id);
    waiting.delete(id);
    if (broken === "updated") await newVersion();
    if (error === undefined) done(answer); else failed(new Error(error));
    if (broken === true) stopWorker(error);
  };
  worker.onerror = () => stopWorker("The analysis can't start: part of the page is missing, or this browser lacks WebAssembly. Try again.");
}

/** End the worker with all that waits for it; the next call starts a new one. */
function stopWorker(reason) {
  worker.terminate();
  worker = null;
  for (const {failed} of waiting.values()) failed(new Error(reason));
  waiting.clear();
  progress(1);
}

function call(name, values = [], transfer = []) {
  if (!worker) startWorker();
  return new Promise((done, failed) => {
    waiting.set(++number, {done, failed});
    worker.postMessage({id: number, call: name, values}, transfer);
  });
}

/** The site has changed since this page was loaded: wait until the service worker has it, so that one reload is enough. */
async function newVersion() {
  const registration = await navigator.serviceWorker?.getRegistration();
  await registration?.update().catch(() => {});
  const coming = registration?.installing ?? registration?.waiting;
  if (!coming) return;
  const activated = new Promise((done) => coming.addEventListener("statechange", () => coming.state === "activated" && done()));
  await Promise.race([activated, new Promise((done) => setTimeout(done, 10_000))]);
}

function progress(share) {
  $("#loading").hidden = share >= 1;
  $("#loading progress").value = share;
}

// Photo

function say(text) {
  $("#message").textContent = text;
  $("#message").hidden = !text;
  if (text) $("#message").scrollIntoView({block: "nearest"});
}

// Numbers of the newest photo and of the newest analysis: what is older is given up.
let newestPhoto = 0, newestAnalysis = 0;

/** Open the first of some files, and show what is found in it. */
async function take(files) {
  if (!files.length) return;
  const mine = ++newestPhoto;
  say(files.length > 1 ? "Only the first file was opened." : "");
  try {
    const photo = await openPhoto(files[0]);
    if (mine !== newestPhoto) return;
    current = photo;
    await show({move: true});
  } catch (error) {
    if (mine === newestPhoto) say(error.message);
  }
}

async function show({move = false} = {}) {
  if (!current) return;
  const mine = ++newestAnalysis, photo = current, {canvas, factor} = photo, chosen = model;
  busy(true);
  try {
    const {data, width, height} = pixels(canvas);
    const {faces, elapsed_ms} = await call("analyze", [{data, width, height}, chosen, threshold()], [data.buffer]);
    if (mine !== newestAnalysis) return;  // another photo or setting has been chosen meanwhile
    const about = {elapsed_ms, rotation: faces[0]?.rotation ?? 0, model: kit.models.find((one) => one.name === chosen).about};
    shown = {photo, faces, about, json: asResult(faces.map((face) => scaled(face, factor)), about, kit.face)};
    render();
    if (move && innerWidth < 800) $("#result").scrollIntoView({behavior: "smooth"});
  } catch (error) {
    if (mine === newestAnalysis) say(error.message);
  } finally {
    if (mine === newestAnalysis) busy(false);
  }
}

function busy(is) {
  $("#result").toggleAttribute("aria-busy", is);
  $("#busy").hidden = !is;
}

const threshold = () => Number($("#threshold").value);
const options = () => ({colors: kit.colors, limits: kit.face, blurred: $("#blur").checked});

function render() {
  const {photo, faces, about} = shown, {width, height} = photo.canvas;
  const picture = draw(photo.canvas, faces, options());
  picture.role = "img";
  picture.ariaLabel = "The photo with a box and a label for every face";
  const smaller = photo.factor > 1 ? ` The image was reduced to ${width} × ${height} pixels; JSON and CSV give positions in the original.` : "";
  $("#summary").innerHTML = summary(faces, about, kit.detector) + smaller;
  const boxes = $("#boxes");
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  boxes.replaceChildren(...faces.slice(0, MOST).map(({box}, i) => {
    const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    Object.entries({"data-n": i + 1, x: box[0], y: box[1], width: box[2], height: box[3]}).forEach((pair) => rect.setAttribute(...pair));
    return rect;
  }));
  $("#picture").replaceChildren(picture);
  const size = faces.length ? Math.sqrt(faces[0].crop.length / 3) : 0;
  $("#people").replaceChildren(...cards(faces.map((face) => ({...scaled(face, photo.factor), crop: face.crop})), {size, ...options()}));
  $("#json").textContent = JSON.stringify(shown.json, null, 1);
  $("#result").dataset.photo = photo.name;
  $("#result").hidden = false;
}

function pointAt(event) {
  const n = event.type === "pointerleave" ? undefined : event.target.closest?.("[data-n]")?.dataset.n;
  for (const one of document.querySelectorAll("#result [data-n]")) one.classList.toggle("on", one.dataset.n === n);
}
for (const kind of ["pointerover", "pointerleave", "focusin"]) $("#result").addEventListener(kind, pointAt);

for (const input of ["#file", "#camera"])
  $(input).addEventListener("change", ({target}) => { take([...target.files]); target.value = ""; });
document.addEventListener("paste", (event) => { if (!$("#photo").hidden) take([...event.clipboardData.files]); });
document.addEventListener("dragover", (event) => { event.preventDefault(); $("#drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("#drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("#drop").classList.remove("over");
  if (!$("#photo").hidden) take([...event.dataTransfer.files]);
});
const exampleFile = async (address) => new File([await (await fetch(address)).blob()], address.split("/").at(-1));
for (const example of document.querySelectorAll("#examples button"))
  example.addEventListener("click", async () => {
    const {src} = example.querySelector("img");
    take([await exampleFile(src)]);
  });
$("#threshold").addEventListener("input", () => { $("#threshold-value").textContent = threshold().toFixed(2); });
$("#threshold").addEventListener("change", () => show());
$("#blur").addEventListener("change", () => shown && render());
$("#download-image").addEventListener("click", () => draw(shown.photo.canvas, shown.faces, options())
  .toBlob((image) => save(image, `${shown.photo.name}-faces.jpg`), "image/jpeg", 0.92));
$("#download-csv").addEventListener("click", () =>
  save(new Blob([asCsv(shown.json, shown.photo.name, kit.csv)], {type: "text/csv"}), `${shown.photo.name}-faces.csv`));
$("#download-json").addEventListener("click", () =>
  save(new Blob([JSON.stringify(shown.json, null, 1)], {type: "application/json"}), `${shown.photo.name}-faces.json`));

// Models

for (const {name, title} of kit.models) {
  const choice = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, {type: "radio", name: "model", value: name, checked: name === model});
  input.addEventListener("change", () => choose(name));
  choice.append(input, ` ${title}`);
  $("#models").append(choice);
}
$("#models").hidden = kit.models.length < 2;

let wanted = model;
async function choose(name) {
  wanted = name;
  say("");
  try {
    await call("load", [name]);
  } catch (error) {
    if (wanted !== name) return;
    wanted = model;
    $(`#models input[value="${model}"]`).checked = true;
    return say(error.message);
  }
  if (wanted !== name) return;  // while it was loaded, another one was chosen
  model = name;
  await show();
}

// Live

for (const [name, [r, g, b]] of Object.entries(kit.colors)) {
  kit.colors[name] = `rgb(${r} ${g} ${b})`;
  document.documentElement.style.setProperty(`--${name}`, kit.colors[name]);
}
const live = $("#live-tab");
// The first model, which is the quickest: Live needs many answers a second.
live.openChannel = (told) => {
  const [{name: model}] = kit.models;
  let score = kit.detector.threshold, open = true;
  call("load", [model]).then(told.open, (error) => told.close(error.message));
  return {
    busy: false,
    async send(frame, canvas) {
      const {data, width, height} = pixels(canvas);
      call("live", [{data, width, height}, model, score, performance.now() / 1000], [data.buffer])
        .then((answer) => open && told.answer({frame, ...answer}), (error) => open && told.close(error.message));
      return true;
    },
    tune(value) { score = value; },
    close() { open = false; call("stop"); },
  };
};
startLive(live);

// Tabs, with a link for each

const tabs = [...document.querySelectorAll("[role=tab]")];
function open(tab, {remember = true} = {}) {
  for (const one of tabs) {
    one.ariaSelected = String(one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    $(`#${one.getAttribute("aria-controls")}`).hidden = one !== tab;
  }
  const address = new URL(location.href);
  address.searchParams.set("tab", tab.dataset.tab);
  if (remember) history.replaceState(null, "", address);
}
for (const [i, tab] of tabs.entries()) {
  tab.addEventListener("click", () => open(tab));
  tab.addEventListener("keydown", ({key}) => {
    const place = {ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: -1}[key];
    if (place === undefined) return;
    const next = tabs.at(place % tabs.length);
    next.focus();
    open(next);
  });
}
open(tabs.find((tab) => tab.dataset.tab === new URLSearchParams(location.search).get("tab")) ?? tabs[0], {remember: false});

// Start

try {
  const [file] = await Promise.all([exampleFile($("#examples img").src), call("load", [model])]);
  // A visitor sees a result before doing anything.
  if (!newestPhoto) {
    current = await openPhoto(file);
    await show();
  }
} catch (error) {
  say(error.message);
} finally {
  progress(1);
  document.body.dataset.ready = "yes";
}
// After the first result: it fetches the files once more, for visits without a network.
if ("serviceWorker" in navigator && isSecureContext) navigator.serviceWorker.register("service-worker.js").catch(() => {});
