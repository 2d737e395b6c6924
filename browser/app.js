// The page: photo, live and about. Analysis runs in worker.js; nothing that a visitor chooses leaves this browser.
import {draw} from "./annotate.js";
import {cards, summary} from "./cards.js";
import {asCsv, asResult, save} from "./downloads.js";
import {scaled} from "./face.js";
import {openPhoto, pixels} from "./photo.js";
import startLive from "./live-page.js";

const $ = (selector) => document.querySelector(selector);
const kit = await (await fetch("kit.json")).json();
let model = kit.models[0].name, current = null, shown = null;

// Worker

// Through a blob: such a worker is under the page's Content-Security-Policy, one from a file isn't.
const start = `import ${JSON.stringify(new URL("worker.js", location.href).href)};`;
const worker = new Worker(URL.createObjectURL(new Blob([start], {type: "text/javascript"})), {type: "module"});
const waiting = new Map();
let number = 0;
worker.onmessage = ({data}) => {
  if (data.progress !== undefined) return progress(data.progress);
  const {done, failed} = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error === undefined) done(data.answer); else failed(new Error(data.error));
};
worker.onerror = (event) => say(`The analysis can't start in this browser: ${event.message || "it needs module workers and WebAssembly"}.`);

function call(name, values = [], transfer = []) {
  return new Promise((done, failed) => {
    waiting.set(++number, {done, failed});
    worker.postMessage({id: number, call: name, values}, transfer);
  });
}

function progress(share) {
  $("#loading").hidden = share >= 1;
  $("#loading progress").value = share;
}

// Photo

function say(text) {
  $("#message").textContent = text;
  $("#message").hidden = !text;
}

/** Open a file, and show what it is analyzed to. */
async function take(file) {
  if (!file) return;
  say("");
  try {
    current = await openPhoto(file);
  } catch (error) {
    return say(error.message);
  }
  await show({move: true});
}

let latest = 0;
async function show({move = false} = {}) {
  if (!current) return;
  const mine = ++latest, photo = current, {canvas, factor} = photo, image = pixels(canvas), chosen = model;
  $("#result").setAttribute("aria-busy", "true");
  try {
    const {faces, elapsed_ms} = await call("analyze", [{data: image.data, width: image.width, height: image.height}, chosen, threshold()], [image.data.buffer]);
    if (mine !== latest) return;  // another photo or setting has been chosen meanwhile
    const about = {elapsed_ms, rotation: faces[0]?.rotation ?? 0, model: kit.models.find((one) => one.name === chosen).about};
    shown = {photo, faces, about, json: asResult(faces.map((face) => scaled(face, factor)), about)};
    render();
    if (move && innerWidth < 800) $("#result").scrollIntoView({behavior: "smooth"});
  } catch (error) {
    if (mine === latest) say(error.message);
  } finally {
    if (mine === latest) $("#result").removeAttribute("aria-busy");
  }
}

const threshold = () => Number($("#threshold").value);
const options = () => ({colors: kit.colors, limits: kit.face, blurred: $("#blur").checked});

function render() {
  const {photo, faces, about} = shown, {width, height} = photo.canvas;
  const picture = draw(photo.canvas, faces, options());
  picture.role = "img";
  picture.ariaLabel = "The photo with a box and a label for every face";
  $("#summary").innerHTML = summary(faces, about, kit.detector);
  const boxes = $("#boxes");
  boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
  boxes.replaceChildren(...faces.slice(0, 100).map(({box}, i) => {
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

$("#file").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
$("#camera").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
document.addEventListener("paste", (event) => { if (!$("#photo").hidden) take([...event.clipboardData.files][0]); });
document.addEventListener("dragover", (event) => { event.preventDefault(); $("#drop").classList.add("over"); });
document.addEventListener("dragleave", () => $("#drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("#drop").classList.remove("over");
  if (!$("#photo").hidden) take(event.dataTransfer.files[0]);
});
for (const example of document.querySelectorAll("#examples button"))
  example.addEventListener("click", async () => {
    const {src} = example.querySelector("img");
    take(new File([await (await fetch(src)).blob()], src.split("/").at(-1)));
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

async function choose(name) {
  try {
    say("");
    await call("load", [name]);
    model = name;
    await show();
  } catch (error) {
    $(`#models input[value="${model}"]`).checked = true;
    say(error.message);
  } finally {
    progress(1);
  }
}

// Live

for (const [name, [r, g, b]] of Object.entries(kit.colors)) {
  kit.colors[name] = `rgb(${r} ${g} ${b})`;
  document.documentElement.style.setProperty(`--${name}`, kit.colors[name]);
}
const live = $("#live-tab");
live.openChannel = (told) => {
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
    const step = {ArrowRight: 1, ArrowLeft: -1}[key];
    if (!step) return;
    const next = tabs[(i + step + tabs.length) % tabs.length];
    next.focus();
    open(next);
  });
}
open(tabs.find((tab) => tab.dataset.tab === new URLSearchParams(location.search).get("tab")) ?? tabs[0], {remember: false});

// Start

if ("serviceWorker" in navigator && isSecureContext) navigator.serviceWorker.register("service-worker.js").catch(() => {});
try {
  const example = $("#examples img").src, [file] = await Promise.all([fetch(example).then((r) => r.blob()), call("load", [model])]);
  progress(1);
  // A visitor sees a result before doing anything.
  if (!current) {
    current = await openPhoto(new File([file], example.split("/").at(-1)));
    await show();
  }
} catch (error) {
  say(error.message);
} finally {
  progress(1);
  document.body.dataset.ready = "yes";
}
