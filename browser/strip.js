// Several photos at once: a thumbnail each, a result each, two side by side, one table of all.
import {draw} from "./annotate.js";
import {asText} from "./cards.js";
import {asCsv, save} from "./downloads.js";
import {t, translate} from "./text.js";

const SIDE = 96,
  COMPARED = 900; // pixels, longer side of a thumbnail and of a photo side by side
const KEPT = 1200; // pixels, longer side of the photos that aren't selected: full ones take 50 MB and more each
const MOST = 50; // photos
const PAUSE = 150; // ms without another selection before a photo is read again: an arrow key may be held down

/**
 * Build the strip in an element. It is hidden while there are fewer than two photos.
 *
 * @param element an empty element.
 * @param kit {colors, csv} as for `resultView`.
 * @param analyze a function: a file, and a function that tells whether its result is no longer wanted → a promise of what
 *   `resultView.show` takes. It is called for one file at a time.
 * @param open a function: a file → a promise of its photo, as `openPhoto`.
 * @param chosen called with an item {file, shown, error} when it is selected and whenever that one changes.
 * @returns {take, add, again, current, blur}
 */
export function photoStrip(element, {colors, csv}, {analyze, open}, chosen) {
  element.classList.add("strip");
  element.innerHTML = `<ul class="strip-photos" aria-label="Photos"></ul>
    <div class="downloads"><label><input type="checkbox" class="strip-compare"> Show side by side with the next photo</label>
    <button type="button" class="strip-csv">⬇ CSV of all photos</button></div>
    <p class="strip-note" role="status" hidden></p><div class="strip-pair"></div>`;
  translate(element);
  const $ = (name) => element.querySelector(`.strip-${name}`);
  let items = [],
    at = 0,
    run = 0,
    restoring = null, // a timer
    blurred = false;

  function select(number, {focus = false} = {}) {
    const before = items[at];
    at = (number + items.length) % items.length;
    if (before !== items[at]) reduce(before);
    clearTimeout(restoring);
    restoring = setTimeout(() => restore(items[at]), PAUSE);
    for (const [i, item] of items.entries()) item.button.ariaPressed = String(i === at);
    if (focus) items[at].button.focus();
    items[at].button.scrollIntoView({block: "nearest", inline: "nearest"});
    chosen(items[at]);
    compare();
  }

  /** Keep a smaller copy of a photo that isn't selected. */
  function reduce({file, shown}) {
    if (!shown || !file.size || Math.max(shown.image.width, shown.image.height) <= KEPT) return;
    const image = small(shown.image, KEPT);
    Object.assign(shown, {factor: (shown.factor * shown.image.width) / image.width, image, reduced: true});
  }
  /** Read a selected photo again, with all its pixels. */
  async function restore(item) {
    if (!item.shown?.reduced) return;
    const {canvas, factor} = await open(item.file).catch(() => ({}));
    if (item !== items[at] || !item.shown) return;
    // What only a server reads stays as it is.
    if (!canvas || Math.abs(canvas.width * factor - item.shown.image.width * item.shown.factor) > 2) return;
    Object.assign(item.shown, {image: canvas, factor, reduced: false});
    chosen(item);
  }

  function compare() {
    const pair = $("compare").checked && items.length > 1 ? [items[at], items[(at + 1) % items.length]] : [];
    $("pair").replaceChildren(
      ...pair.map(({shown, file, error}) => {
        const figure = document.createElement("figure"),
          caption = document.createElement("figcaption");
        if (shown) figure.append(annotated(shown, COMPARED));
        caption.textContent = shown
          ? asText(shown.answer.faces) || t("No face found.")
          : (error ?? t("Analyzing {name}…", {name: file.name}));
        figure.append(caption);
        return figure;
      }),
    );
  }
  function annotated({image, answer, factor}, side) {
    const faces = answer.faces.map((face) => ({...face, box: face.box.map((v) => v / factor)}));
    return small(draw(image, faces, {colors, blurred}), side);
  }

  function thumb({button, shown}) {
    button.querySelector("canvas")?.remove();
    button.prepend(annotated(shown, SIDE));
  }

  /** What is analyzed next: the selected photo before the others. */
  const next = () => [items[at], ...items].find((item) => item && !item.shown && !item.error);

  /** Analyze what has no result, one after the other; a later call ends this one. */
  async function work() {
    const mine = ++run;
    $("csv").disabled = true;
    for (let item = next(); item; item = next()) {
      item.button.ariaBusy = "true";
      try {
        const shown = await analyze(item.file, () => mine !== run);
        if (mine !== run) return;
        item.shown = shown;
        if (item !== items[at]) reduce(item);
        thumb(item);
      } catch (error) {
        if (mine !== run) return;
        item.error = item.button.title = error?.message || t("The analysis failed.");
      }
      item.button.ariaBusy = "false";
      item.button.lastChild.textContent = item.error ? `⚠ ${item.file.name}` : item.file.name;
      if (item === items[at]) chosen(item);
      compare();
    }
    $("csv").disabled = false;
  }

  $("compare").addEventListener("change", compare);
  $("csv").addEventListener("click", () => {
    const taken = new Map(); // name → how many photos have it, as pasted images do
    const unused = (name) => {
      taken.set(name, (taken.get(name) ?? 0) + 1);
      return taken.get(name) > 1 ? `${name} (${taken.get(name)})` : name;
    };
    const tables = items.map(({shown, file, error}) =>
      asCsv(shown?.answer ?? {faces: []}, unused(file.name), csv, error),
    );
    const [head] = (tables[0] ?? "").split("\r\n");
    const lines = tables.flatMap((table) => table.split("\r\n").slice(1, -1));
    save(new Blob([[head, ...lines, ""].join("\r\n")], {type: "text/csv"}), "photos-faces.csv");
  });
  $("photos").addEventListener("keydown", (event) => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    select(at + step, {focus: true});
  });

  /** A file's place in the strip. */
  function made(file, shown = null) {
    const button = document.createElement("button"),
      name = document.createElement("span"),
      item = {file, button, shown, error: null};
    Object.assign(button, {type: "button", ariaPressed: "false", ariaBusy: "false"});
    name.textContent = file.name;
    button.append(name);
    button.addEventListener("click", () => select(items.indexOf(item)));
    return item;
  }

  /** Put items into the strip, as many as it takes, and select one. */
  function place(all, number) {
    $("note").hidden = all.length <= MOST;
    $("note").textContent = t(`Only the first ${MOST} of ${all.length} photos are shown.`);
    items = all.slice(0, MOST);
    at = Math.min(at, items.length - 1);
    $("photos").replaceChildren(
      ...items.map(({button}) => {
        const entry = document.createElement("li");
        entry.append(button);
        return entry;
      }),
    );
    element.hidden = items.length < 2;
    select(Math.min(number, items.length - 1));
    return work();
  }

  return {
    /** Replace the photos with other files. `results`: of those that have been analyzed already. */
    take(files, results = []) {
      at = 0;
      return place(
        files.map((file, i) => made(file, results[i])),
        0,
      );
    },
    /** Add files to the visitor's own ones; they replace an example. */
    add(files) {
      const own = items.filter(({file}) => !file.example);
      return own.length ? place([...own, ...files.map((file) => made(file))], own.length) : this.take(files);
    },
    /** Analyze all photos again, as after a change of settings. */
    again() {
      for (const item of items) {
        Object.assign(item, {shown: null, error: null});
        item.button.title = "";
      }
      return work();
    },
    get current() {
      return items[at];
    },
    blur(is) {
      blurred = is;
      items.filter(({shown}) => shown).forEach(thumb);
      compare();
    },
  };
}

/** A smaller copy of a canvas. */
function small(canvas, side) {
  const scale = Math.min(1, side / Math.max(canvas.width, canvas.height)),
    out = document.createElement("canvas");
  [out.width, out.height] = [canvas.width, canvas.height].map((n) => Math.max(1, Math.round(n * scale)));
  out.getContext("2d").drawImage(canvas, 0, 0, out.width, out.height);
  return out;
}
