// The Photo tab of the app: sends photos to the server and shows its JSON with the browser page's modules. A function of these
// modules and of what a gr.HTML gives to `js_on_load`. Each request is a promise of its own: an answer can't reach another photo.
([{fromJson, resultView}, {openPhoto}, {photoStrip}, {scrollTo}], {element, props, trigger}, kit) => {
  const styles = getComputedStyle(document.documentElement);
  const colors = Object.fromEntries(["female", "male", "uncertain"].map((name) => [name, styles.getPropertyValue(`--${name}`)]));
  const [stripPlace, resultPlace] = element.children;
  const root = new URL("gradio_api/", (window.gradio_config?.root || location.origin + location.pathname).replace(/[/]*$/, "/"));
  const view = resultView(resultPlace, {...kit, colors}, why);
  const strip = photoStrip(stripPlace, {...kit, colors}, {analyze, open: openPhoto}, choose);
  const places = new WeakMap();  // file → where it is on the server, as a file object of Gradio
  const PAUSE = 300;             // ms to wait after the last change of settings before applying it
  let settings = kit.settings;   // [threshold, model]
  let turn = Promise.resolve();  // the last request

  /** Request an explanation of a face's age. The dialog shows only the latest request, while the same photo is shown. */
  function why(number) {
    const question = document.body.dataset.why = String(Math.random());
    trigger("why", {number, question, photo: places.get(strip.current.file) ?? null});
  }

  /** Have the server analyze a file; the answer is what `view.show` takes. */
  async function analyze(file, replaced) {
    const tell = (text) => strip.current.file === file && view.wait(text);
    let own = null, over = false;
    if (file.size) {
      // Shown at once, from the file, before it has been uploaded. There are files that only the server reads.
      own = openPhoto(file).catch(() => null);
      own.then((photo) => {
        if (photo && !over && strip.current.file === file && !view.shows(file)) view.preview(photo.canvas, file);
      });
    }
    const result = await answered(file, tell, replaced).finally(() => { over = true; }), shown = await fromJson(result), photo = await own;
    // The visitor's own file has all pixels, if what the browser reads is what the server has analyzed.
    const fits = (side) => Math.abs(photo.canvas[side] * photo.factor - result[side]) < 2;
    return photo && fits("width") && fits("height") ? {...shown, image: photo.canvas, factor: photo.factor} : shown;
  }

  /** The server's result for a file, which is uploaded first unless it is there. */
  async function answered(file, tell, replaced) {
    const known = places.has(file);
    if (!known) places.set(file, await upload(file, tell, replaced));
    tell(places.get(file).path?.startsWith("http") ? "Fetching and analyzing the image…" : "Analyzing…");
    try {
      // One request at a time: the server refuses a visitor who sends many.
      const asked = turn.then(() => {
        if (replaced()) throw new Error("The photo was replaced.");
        return ask([places.get(file), ...settings]);
      });
      turn = asked.catch(() => null);
      const result = await asked;
      if (file.url) places.set(file, {...places.get(file), path: result.upload});  // fetched once
      return result;
    } catch (error) {
      // The server has deleted it after an hour, or was started again.
      const again = error.message === kit.gone && known && (file.url ? places.get(file).path !== file.url : file.size);
      if (!again) throw error;
      if (file.url) places.set(file, {...places.get(file), path: file.url}); else places.delete(file);
      return answered(file, tell, replaced);
    }
  }

  function upload(file, tell, replaced) {
    return new Promise((done, failed) => {
      const request = new XMLHttpRequest(), form = new FormData();
      form.append("files", file, file.name);
      request.open("POST", new URL("upload", root));
      tell("Uploading…");
      // In quarters: screen readers read each change aloud.
      request.upload.onprogress = ({loaded, total}) => {
        if (replaced()) request.abort();
        else tell(loaded < total ? `Uploading ${25 * Math.floor(4 * loaded / total)}%` : "Analyzing…");
      };
      request.onabort = () => failed(new Error("The photo was replaced."));
      request.onload = () => {
        const answer = parsed(request.responseText);
        if (request.status !== 200) return failed(new Error(reason(answer) ?? `The upload failed (status ${request.status}). Try again later.`));
        done({path: answer[0], orig_name: file.name, meta: {_type: "gradio.FileData"}});
      };
      request.onerror = () => failed(new Error("The upload failed. Check the network, then try again."));
      request.send(form);
    });
  }

  /** Call the page's own endpoint; its answer. Throws an Error for people to read. */
  async function ask(data) {
    const lost = "The server can't be reached. Check the network, then try again.";
    let answer;
    try {
      const address = new URL("call/page_photo", root), headers = {"Content-Type": "application/json"};
      const joined = await fetch(address, {method: "POST", headers, body: JSON.stringify({data})});
      if (!joined.ok) throw new Error(reason(parsed(await joined.text())) ?? `The server refused the request (status ${joined.status}). Try again later.`);
      answer = await (await fetch(`${address}/${(await joined.json()).event_id}`)).text();
    } catch (error) {
      throw error instanceof TypeError ? new Error(lost) : error;
    }
    const [, event, text] = answer.match(/event: (complete|error)\ndata: (.*)/) ?? [];
    if (event === "complete") return JSON.parse(text)[0];
    throw new Error(reason(parsed(text)) ?? lost);
  }
  const parsed = (text) => { try { return JSON.parse(text); } catch { return null; } };
  const reason = (answer) => [answer?.error, answer?.detail].find((text) => typeof text === "string");

  function choose({file, shown, error}) {
    document.dispatchEvent(new CustomEvent("result-changed"));
    if (!view.shows(file)) view.clear();
    const message = document.querySelector("#photo-error p");
    message.hidden = !(error || file.note);
    message.textContent = error ? `⚠️ ${error}` : file.note ?? "";
    if (shown) view.show(shown, file); else if (error) view.clear(); else view.wait("Waiting…");
  }
  /** Show photos that are on the server already, or that it fetches. */
  function takePlace(place, name, own = true) {
    if (own) document.body.dataset.own = "yes";
    const file = Object.assign(new File([], name), {example: !own, url: place.path.startsWith("http") ? place.path : null});
    places.set(file, {path: place.path, orig_name: place.orig_name ?? null, meta: {_type: "gradio.FileData"}});
    strip.take([file]);
  }

  function take(files, adds = false) {
    document.body.dataset.own = "yes";
    if (adds) strip.add(files); else strip.take(files);
    if (innerWidth < 800) setTimeout(() => scrollTo(element), 300);
  }
  document.addEventListener("photos", ({detail}) => {
    detail.files[0].note = detail.note;  // for as long as it is shown
    take(detail.files, detail.adds);
  });
  // In place of Gradio, which would upload one file by itself.
  document.addEventListener("change", (event) => {
    const {target} = event;
    if (!target.matches?.("#photo input[type=file]") || !target.files.length) return;
    event.stopImmediatePropagation();
    const files = [...target.files];
    target.value = "";
    take(files);
  }, true);
  for (const event of ["chosen", "example"]) document.addEventListener(event, ({detail}) => {
    if (!detail?.path) return;
    takePlace(detail, detail.orig_name ?? "photo", event === "chosen");
    if (innerWidth < 800) setTimeout(() => scrollTo(element), 300);
  });
  document.addEventListener("link", ({detail}) => {
    if (!kit.links) return view.note("Links can't be opened. Copy the image itself, or save it and choose the file.");
    takePlace({path: detail}, detail.split(/[?#]/)[0].split("/").at(-1) || "image");
  });
  let changed = null;  // a timer
  document.addEventListener("settings", ({detail}) => {
    const [threshold] = detail, [low, high] = kit.range;
    clearTimeout(changed);
    if (typeof threshold !== "number" || threshold < low || threshold > high) return;  // half typed
    changed = setTimeout(() => {
      if (JSON.stringify(detail) === JSON.stringify(settings)) return;
      settings = detail;
      view.wait("Analyzing…");
      strip.again();
    }, PAUSE);
  });
  document.addEventListener("note", ({detail}) => view.note(detail));
  document.addEventListener("blur-faces", ({detail}) => {
    document.dispatchEvent(new CustomEvent("result-changed"));  // an explanation shows the face
    view.blur(detail);
    strip.blur(detail);
  });
  const first = JSON.parse(props.value);
  Promise.all([fromJson(first), fetch(first.image).then((image) => image.blob())])
    .then(([shown, image]) => strip.current ?? strip.take([Object.assign(new File([image], `${first.name}.jpg`), {example: true})], [shown]));
}
