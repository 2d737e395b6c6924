// A photo's result in both pages: the photo with boxes, everyone in it, downloads and sharing. The page says what is in it.
import {blur, draw, mark} from "./annotate.js";
import {CROWD, MOST, asText, card, summary} from "./cards.js";
import {asCsv, save} from "./downloads.js";
import {center} from "./face.js";
import {openPhoto} from "./photo.js";
import {scrollTo} from "./scroll.js";
import {t, translate} from "./text.js";
import {zoomable} from "./zoom.js";

const ORDERS = {
  // key → name, and how two of {face, line} compare
  size: ["size", () => 0], // as they are
  position: ["position", (a, b) => a.line - b.line || center(a.face)[0] - center(b.face)[0]],
  youngest: ["age, youngest first", (a, b) => a.face.age - b.face.age],
  oldest: ["age, oldest first", (a, b) => b.face.age - a.face.age],
};
const LABEL = 14; // pixels, height of a label's text
const BESIDE = 760; // pixels of width from which the list is beside the photo, instead of under it

/** What `show` takes, from a result of space/web/result.py. */
export async function fromJson({name, width, image, answer, most, probabilities, thumbnails}) {
  const {canvas} = await openPhoto(await (await fetch(image)).blob());
  const shown = thumbnails.map((src, i) => Object.assign(new Image(), {src, alt: t(`Face ${i + 1}`)}));
  return {image: canvas, name, answer, most, factor: width / canvas.width, probabilities, thumbnails: shown};
}

/** A canvas that the browser can't encode. */
class EncodingError extends Error {}

/**
 * Build the view in an element.
 *
 * @param element an empty element.
 * @param kit {colors: by what a label says, csv: column names, most: faces that are returned at most}
 * @param why called with a face's number by the button "Why this age?"; without it there is none.
 * @returns {wait, preview, note, shows, show, clear, blur}
 */
export function resultView(element, {colors, csv, most}, why) {
  element.classList.add("result");
  element.innerHTML = `<p id="busy" role="status" hidden></p>
    <p id="summary" class="summary" role="status"></p>
    <div class="result-parts">
      <div class="result-photo">
        <div class="stage" tabindex="0" role="group" aria-label="Photo. Press + or - to zoom, an arrow key to move, and 0 to reset the zoom."><div class="fit">
          <div id="picture"></div><svg id="boxes" preserveAspectRatio="none" aria-hidden="true"></svg></div>
          <canvas class="labels" aria-hidden="true"></canvas></div>
      </div>
      <div class="result-tools">
        <div class="downloads">
          <button type="button" id="download-image">⬇ Image</button><button type="button" id="download-csv">⬇ CSV</button>
          <button type="button" id="download-json">⬇ JSON</button><button type="button" id="copy-image">Copy image</button>
          <button type="button" id="copy-text">Copy text</button><button type="button" id="share">Share</button></div>
        <p id="shared" role="status"></p></div>
      <div class="result-people">
        <label id="order">Sort by <select>${Object.entries(ORDERS)
          .map(([key, [name]]) => `<option value="${key}">${name}</option>`)
          .join("")}
        </select></label>
        <ol id="people" class="people" aria-label="Faces"></ol></div>
    </div>
    <details id="data"><summary>JSON</summary><pre id="json" tabindex="0"></pre></details>`;
  translate(element);
  const $ = (selector) => element.querySelector(selector);
  const stage = $(".stage"),
    boxes = $("#boxes"),
    labels = $(".labels"),
    people = $("#people"),
    order = $("#order select");
  let shown = null,
    blurred = false,
    pinned = null,
    waiting = null, // the photo of a preview
    source = null, // the file of what is shown
    view = {scale: 1, x: 0, y: 0};

  /** Faces with boxes in pixels of the canvas. */
  const onCanvas = () => shown.answer.faces.map((face) => ({...face, box: face.box.map((v) => v / shown.factor)}));

  function render() {
    const {image, answer} = shown,
      {width, height} = image,
      faces = onCanvas();
    const picture = blurred ? blur(image, faces) : image;
    picture.role = "img";
    picture.ariaLabel = t("The photo with a box and a label for every face");
    $("#picture").replaceChildren(picture);
    boxes.setAttribute("viewBox", `0 0 ${width} ${height}`);
    boxes.replaceChildren(
      ...faces.slice(0, MOST).map(({box}, i) => {
        const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        const attributes = {"data-n": i + 1, x: box[0], y: box[1], width: box[2], height: box[3]};
        for (const pair of Object.entries(attributes)) rect.setAttribute(...pair);
        return rect;
      }),
    );
    const row = answer.faces.length > CROWD;
    $("#order").hidden = answer.faces.length < 2;
    people.classList.toggle("rows", row);
    const tall = Math.max(...answer.faces.map((face) => face.box[3]), 1); // faces side by side are in one line
    const sorted = answer.faces.slice(0, MOST).map((face, i) => ({face, i, line: Math.round(center(face)[1] / tall)}));
    sorted.sort((a, b) => ORDERS[order.value][1](a, b) || a.i - b.i);
    people.replaceChildren(
      ...sorted.map(({face, i}) => {
        const thumbnail = blurred ? undefined : shown.thumbnails[i];
        return card({...face, age_probs: shown.probabilities?.[i]}, i + 1, {thumbnail, row, why: why && !blurred});
      }),
    );
    pin(null);
    drawLabels();
  }

  /** Boxes and labels on screen have the same size at every zoom; those of the downloads grow with the photo. */
  function drawLabels() {
    if (!shown) return;
    const fit = $(".fit"),
      ratio = devicePixelRatio || 1,
      {clientWidth: width, clientHeight: height} = fit;
    Object.assign(labels, {width: Math.round(width * ratio), height: Math.round(height * ratio)});
    const pen = labels.getContext("2d"),
      scale = (view.scale * width) / shown.image.width;
    pen.scale(ratio, ratio);
    const faces = onCanvas().map((face, i) => {
      const [x, y, w, h] = face.box.map((v) => v * scale);
      return {...face, id: i + 1, box: [x + view.x, y + view.y, w, h]};
    });
    const inView = ({box: [x, y, w, h]}) => x < width && y < height && x + w > 0 && y + h > 0;
    mark(pen, faces.filter(inView), {width, height}, {colors, lineOf: () => 2, sizeOf: () => LABEL});
  }

  function light(number) {
    for (const one of element.querySelectorAll("[data-n]"))
      one.classList.toggle("on", number != null && one.dataset.n === String(number));
  }
  /** Keep a face highlighted, until another one is, and bring its card into view, whole. The photo stays where it is. */
  function pin(number) {
    pinned = number;
    light(number);
    for (const one of people.children) one.classList.toggle("open", one.dataset.n === String(number));
    scrollTo(people.querySelector(`[data-n="${number}"]`), {block: "nearest"});
  }
  const numberOf = (event) => event.target.closest?.("[data-n]")?.dataset.n ?? null;

  element.addEventListener("pointerover", (event) => event.pointerType === "mouse" && light(numberOf(event) ?? pinned));
  element.addEventListener("pointerleave", () => light(pinned));
  element.addEventListener("focusin", (event) => {
    if (event.target.closest("li")) light(numberOf(event));
  });
  element.addEventListener("click", (event) => {
    const asked = event.target.closest(".why");
    if (asked) return why(Number(asked.dataset.number));
    const number = event.target.closest("rect, li") && numberOf(event);
    if (number) pin(number);
    else if (event.target.closest(".stage")) pin(null);
  });
  // While a pinned card scrolls into view, other cards pass under the pointer: they don't light up.
  people.addEventListener("pointerover", (event) => {
    if (pinned) {
      event.stopPropagation();
      light(pinned);
    }
  });
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") pin(null);
    if (event.key === "Enter" && event.target.matches("li")) pin(numberOf(event));
  });
  order.addEventListener("change", render);
  const reset = zoomable(stage, $(".fit"), (changed) => {
    view = {...changed};
    drawLabels();
  });
  new ResizeObserver(() => reset()).observe(stage);
  new ResizeObserver(
    ([
      {
        contentRect: {width},
      },
    ]) => element.classList.toggle("wide", width >= BESIDE),
  ).observe(element);

  // Downloads and sharing: made here, from what is on the page.

  const annotated = () => draw(shown.image, onCanvas(), {colors, blurred});
  const asBlob = (canvas, kind) =>
    new Promise((done, failed) =>
      canvas.toBlob((blob) => (blob ? done(blob) : failed(new EncodingError())), kind, 0.92),
    );
  const json = () => JSON.stringify(shown.answer, null, 1);
  async function say(action, text) {
    try {
      await action();
      $("#shared").textContent = text;
    } catch (error) {
      if (error instanceof EncodingError)
        $("#shared").textContent = t("The browser has too little memory for this image.");
      else if (error.name !== "AbortError")
        $("#shared").textContent = t("The browser didn't allow this: {reason}", {reason: error.message});
    }
    setTimeout(() => {
      $("#shared").textContent = "";
    }, 4000);
  }
  async function imageFile() {
    const {name} = shown; // another photo may be shown once this one is encoded
    return new File([await asBlob(annotated(), "image/jpeg")], `${name}-faces.jpg`, {type: "image/jpeg"});
  }
  const actions = {
    "#download-image": () =>
      say(async () => {
        const file = await imageFile();
        save(file, file.name);
      }, ""),
    "#download-csv": () =>
      save(
        new Blob([asCsv(shown.answer, source?.name ?? shown.name, csv)], {type: "text/csv"}),
        `${shown.name}-faces.csv`,
      ),
    "#download-json": () => save(new Blob([json()], {type: "application/json"}), `${shown.name}-faces.json`),
    "#copy-image": () =>
      say(
        () => navigator.clipboard.write([new ClipboardItem({"image/png": asBlob(annotated(), "image/png")})]),
        t("Image copied."),
      ),
    "#copy-text": () => say(() => navigator.clipboard.writeText(asText(shown.answer.faces)), t("Text copied.")),
    "#share": () =>
      say(async () => {
        const text = asText(shown.answer.faces);
        await navigator.share({files: [await imageFile()], text});
      }, ""),
  };
  for (const [selector, action] of Object.entries(actions)) $(selector).addEventListener("click", action);
  $("#copy-image").hidden = !navigator.clipboard?.write;
  $("#copy-text").hidden = !navigator.clipboard;
  $("#share").hidden = !navigator.canShare?.({files: [new File([""], "a.jpg", {type: "image/jpeg"})]});

  clear();

  function clear() {
    shown = waiting = source = null;
    for (const part of [".result-parts", "#data", "#busy"]) $(part).hidden = true;
    $("#summary").textContent = $("#json").textContent = "";
    for (const part of [$("#picture"), boxes, people]) part.replaceChildren();
    element.removeAttribute("aria-busy");
    delete element.dataset.photo;
  }

  return {
    clear,
    /** Show what the page is waiting for. An empty text hides the message. */
    wait(text) {
      $("#busy").textContent = text;
      $("#busy").hidden = !text;
      element.toggleAttribute("aria-busy", Boolean(text));
    },
    /** Show a photo, a canvas, that has no result yet. While faces are blurred, all of it is. */
    preview(image, file) {
      const text = $("#busy").textContent;
      clear();
      [waiting, source] = [image, file];
      const {width, height} = image;
      $("#picture").replaceChildren(blurred ? blur(image, [{box: [-width, -height, 3 * width, 3 * height]}]) : image);
      for (const part of [".downloads", "#order"]) $(part).hidden = true;
      $(".result-parts").hidden = false;
      labels.width = 0;
      reset();
      this.wait(text);
    },
    /** Whether the photo of this file is shown, with its result or without. */
    shows: (file) => source === file,
    /** Say something about what was tried; the next result replaces it. */
    note(text) {
      $("#busy").textContent = text;
      $("#busy").hidden = !text;
    },
    /**
     * Show a result.
     *
     * @param image a canvas with the photo.
     * @param name what its files are named after.
     * @param answer the API's JSON.
     * @param factor pixels of `answer` per pixel of `image`.
     * @param most faces that the model returns at most, if it isn't the kit's number.
     * @param probabilities of each age, for each face; or undefined.
     * @param thumbnails an element for each face.
     * @param file of the photo.
     */
    show({image, name, answer, factor, most: limit = most, probabilities, thumbnails}, file) {
      clear();
      source = file;
      shown = {image, name, answer, factor, probabilities, thumbnails};
      for (const part of [".result-parts", ".downloads", "#data"]) $(part).hidden = false;
      $("#summary").innerHTML = summary(answer, limit);
      element.dataset.photo = name;
      reset();
      render();
      $("#json").textContent = json();
    },
    /** Blur faces in what is shown, downloaded and shared. */
    blur(is) {
      blurred = is;
      if (shown) render();
      else if (waiting) this.preview(waiting, source);
    },
  };
}
