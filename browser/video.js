// The Video tab: a file → the annotated video and a table of the people in it. worker.js does the work.
import {save, table} from "./downloads.js";
import {intervalYears, shownPercent, wholeYears} from "./face.js";
import {stem} from "./photo.js";
import {scrollTo} from "./scroll.js";
import {listed, number, percent, t} from "./text.js";
import {sendFrames} from "./video-element.js";

const FIGURES = ["id", "first", "last", "on_screen", "age", "age_low", "age_high"];
const COLUMNS = [...FIGURES, "gender", "gender_probability", "gender_label"]; // of the CSV, as the app's
const HEADS = ["", "Person", "Age", "Interval", "Gender", "Confidence", "On screen", "From", "To"];

/**
 * Build the tab in an element that has the content of index.html's Video section.
 *
 * @param call the worker's calls.
 * @param model a name.
 * @param rate how many frames per second are analyzed where WebCodecs is missing.
 * @param about what the JSON says of the model.
 * @param thumbnail a function: a face's crop → a canvas.
 * @returns {take, show}: take(file) analyzes a video; show({run, share, picture}) takes the worker's progress.
 */
export function videoTab(element, {call, model, about, rate, thumbnail}) {
  const $ = (name) => element.querySelector(`.video-${name}`);
  const pen = $("picture").getContext("2d");
  let run = 0, // number of the last start
    working = false,
    started = 0,
    last = null, // the last file
    name = "video",
    remark = "", // before each status
    address = null,
    result = null;

  async function take(file, note = "") {
    last = file;
    remark = note;
    name = stem(file, "video");
    const mine = ++run,
      threshold = Number($("threshold").value),
      blurred = $("blur").checked;
    clear();
    working = true;
    started = performance.now();
    $("cancel").hidden = $("progress").hidden = $("share").hidden = false;
    $("progress").value = 0;
    $("share").textContent = "";
    if (innerWidth < 800) scrollTo($("status"));
    say(t("Loading the model and the video…"));
    try {
      const answer = await analyzed(file, [mine, model, threshold, blurred]);
      if (mine === run) done(answer, blurred);
    } catch (error) {
      if (mine === run) end(error.message, true);
    }
  }

  function analyzed(file, values) {
    if (typeof VideoDecoder !== "undefined" && typeof VideoEncoder !== "undefined")
      return call("video", [file, ...values]);
    const {port1, port2} = new MessageChannel();
    return call("video", [port2, ...values], [port2]).finally(sendFrames(file, port1, rate));
  }

  function end(text, alarm = false) {
    working = false;
    for (const part of ["cancel", "progress", "share", "picture"]) $(part).hidden = true;
    say(text, alarm);
  }

  function say(text, alarm = false) {
    $("status").textContent = [remark, text].filter(Boolean).join(" ");
    $("status").classList.toggle("alarm", alarm);
  }

  function clear() {
    result = null;
    $("result").hidden = $("picture").hidden = $("again").hidden = true;
    $("out").pause(); // without a source, it would play on
    $("out").removeAttribute("src");
    $("out").load();
    if (address) URL.revokeObjectURL(address);
    address = null;
  }

  /** The annotated frames as they come, and how long it will take. */
  function show({run: sent, share, picture}) {
    if (!working || sent !== run) return picture.close();
    if ($("picture").hidden) say(t("Analyzing…"));
    $("picture").hidden = false;
    [pen.canvas.width, pen.canvas.height] = [picture.width, picture.height];
    pen.drawImage(picture, 0, 0);
    picture.close();
    $("progress").value = share;
    const passed = (performance.now() - started) / 1000,
      left = (passed * (1 - share)) / share;
    // Beside the status, which screen readers read aloud each time.
    const about = share > 0.02 && passed > 2 && t("about {time} left", {time: span(left)});
    $("share").textContent = listed(percent(share), about);
  }

  function done(answer, blurred) {
    const {blob, silent, people, frames, analyzed, seconds, elapsed_ms} = answer;
    const most = answer.faces_over_time.reduce((largest, [, count]) => Math.max(largest, count), 0);
    result = answer;
    const sentences = [
      t("{people} in {seconds} seconds; {analyzed} of {frames} frames analyzed in {time}.", {
        people: summary(people.length, most),
        seconds: number(seconds, 1),
        analyzed: number(analyzed),
        frames: number(frames),
        time: span(elapsed_ms / 1000),
      }),
      answer.damaged && t("The video is damaged: parts of it could not be read."),
      silent && t("The audio could not be kept."),
      !blob && t("There is no annotated video: this browser lacks WebCodecs, or the page isn't opened over HTTPS."),
    ];
    end(sentences.filter(Boolean).join(" "));
    $("out").hidden = $("save").hidden = !blob;
    if (blob) $("out").src = address = URL.createObjectURL(blob);
    $("people").replaceChildren(...(people.length ? [tableOf(people, blurred)] : []));
    $("none").hidden = people.length > 0;
    $("json").textContent = JSON.stringify(asJson(), null, 1);
    $("result").hidden = false;
  }

  function tableOf(people, blurred) {
    const rows = document.createElement("table");
    const head = rows.createTHead().insertRow();
    for (const text of HEADS)
      head.append(Object.assign(document.createElement("th"), {scope: "col", textContent: t(text)}));
    const body = rows.createTBody();
    for (const person of people) {
      const row = body.insertRow(),
        picture = row.insertCell();
      if (!blurred) picture.append(thumbnail(person.crop, t(`Person ${person.id}`)));
      const times = [person.on_screen, person.first, person.last].map((value) => t(`${value.toFixed(1)} s`));
      for (const text of [
        person.id,
        wholeYears(person.age),
        intervalYears(person),
        t(person.gender_label),
        shownPercent(person),
        ...times,
      ])
        row.insertCell().textContent = text;
    }
    return rows;
  }

  /** As the app's endpoint /analyze_video. */
  function asJson() {
    const {people, faces_over_time, frames, analyzed, seconds, elapsed_ms} = result;
    const rows = people.map(({crop, ...values}) => values);
    return {people: rows, faces_over_time, frames, analyzed, seconds, model: about, detector: "yunet", elapsed_ms};
  }

  $("file").addEventListener("change", ({target}) => {
    if (target.files.length) {
      document.body.dataset.own = "yes";
      take(target.files[0]);
    }
    target.value = "";
  });
  $("example").addEventListener("click", async ({currentTarget: {dataset}}) => {
    const mine = run;
    try {
      const response = await fetch(dataset.file);
      if (!response.ok) throw new Error(response.status);
      const content = await response.blob();
      if (mine === run) take(new File([content], dataset.file.split("/").at(-1), {type: "video/mp4"}));
    } catch {
      if (mine === run)
        (working ? say : end)(t("The example can't be downloaded. Check the network, then try again."), true);
    }
  });
  $("cancel").addEventListener("click", () => {
    run++;
    last = null;
    remark = "";
    call("stopVideo");
    end(t("Canceled."));
    $("file").focus();
  });
  for (const setting of ["threshold", "blur"])
    $(setting).addEventListener("change", () => {
      if (result) $("again").hidden = false;
      else if (last) take(last);
    });
  // A result took minutes: it stays until it isn't wanted any more.
  $("again").addEventListener("click", () => {
    take(last);
    $("cancel").focus();
  });
  $("threshold").addEventListener("input", () => {
    $("threshold-value").textContent = number(Number($("threshold").value), 2);
  });
  $("save").addEventListener("click", () => save(result.blob, `${name}-faces${result.extension}`));
  $("csv").addEventListener("click", () => save(new Blob([table(COLUMNS, result.people)]), `${name}-faces.csv`));
  $("save-json").addEventListener("click", () => save(new Blob([$("json").textContent]), `${name}-faces.json`));
  return {take, show};
}

/** `2 people`, or who returns counted once more: `Up to 2 people at once, 3 appearances`. */
function summary(people, most) {
  if (!people) return t("No people");
  if (people <= most) return t(people === 1 ? "1 person" : `${people} people`);
  return t(
    most === 1
      ? `Up to 1 person at once, ${people} appearances`
      : `Up to ${most} people at once, ${people} appearances`,
  );
}

/** `45 seconds` or `2 minutes`. */
function span(seconds) {
  if (seconds < 1.5) return t("1 second");
  return t(seconds < 90 ? `${Math.round(seconds)} seconds` : `${Math.round(seconds / 60)} minutes`);
}
