// The Photo tab of the app: shows the server's JSON with the browser page's modules. A function of these modules and of
// what a gr.HTML gives to `js_on_load`.
([{fromJson, resultView}, {openPhoto}, {photoStrip}], {element, props, trigger, watch}, kit) => {
  const styles = getComputedStyle(document.documentElement);
  const colors = Object.fromEntries(["female", "male", "uncertain"].map((name) => [name, styles.getPropertyValue(`--${name}`)]));
  const [stripPlace, resultPlace] = element.children;
  const view = resultView(resultPlace, {...kit, colors}, (number) => trigger("why", {number}));
  const strip = photoStrip(stripPlace, {...kit, colors}, analyze, choose);
  let sent = null;      // the file that Gradio uploads by itself, because the visitor chose it
  let waiting = null;   // {file, done, failed}: whose answer comes next
  let own = null;       // {file, photo}: the file that was sent last, as this browser reads it
  let last, settings;   // the last answer and the settings that it had

  /** Have the server analyze a file; the answer is what `view.show` takes. */
  function analyze(file) {
    const answer = new Promise((done, failed) => { waiting = {file, done, failed}; });
    if (sent !== file) send([file]);
    sent = null;
    // Shown at once, from the file, before it has been uploaded. There are files that only the server reads.
    own = null;
    if (strip.current.file === file) view.wait("Uploading…");
    openPhoto(file).then((photo) => {
      if (waiting?.file !== file) return;
      own = {file, photo};
      if (strip.current.file === file && !view.shows(photo.name)) view.wait("Uploading…", photo.canvas);
    }, () => {});
    return answer;
  }
  function send(files) {
    const input = document.querySelector("#photo input[type=file]"), chosen = new DataTransfer();
    for (const file of files) chosen.items.add(file);
    input.files = chosen.files;
    input.dispatchEvent(new CustomEvent("change", {bubbles: true, detail: "sent"}));
  }
  function choose({shown, error}) {
    if (shown) view.show(shown); else if (error) view.clear(); else view.wait("Waiting…");
  }

  async function received() {
    const text = props.value;
    if (text === last) return;
    last = text;
    if (!text) return;
    const result = JSON.parse(text), shown = await fromJson(result), asked = waiting;
    // The visitor's own file has all pixels, if what the browser reads is what the server has analyzed.
    const fits = (side) => Math.abs(own.photo.canvas[side] * own.photo.factor - result[side]) < 2;
    if (own?.photo.name === result.name && fits("width") && fits("height")) Object.assign(shown, {image: own.photo.canvas, factor: own.photo.factor});
    waiting = null;
    if (asked) asked.done(shown);
    else if (strip.current?.shown?.name === result.name) strip.replace(shown);  // with other settings
    else strip.take([new File([], result.name)], [shown]);  // an example, or from the camera
  }

  document.addEventListener("photos", ({detail}) => strip.take(detail));
  document.addEventListener("change", (event) => {
    const {target, detail} = event;
    if (detail === "sent" || !target.matches?.("#photo input[type=file]") || !target.files.length) return;
    const files = [...target.files];
    if (files.length > 1) event.stopImmediatePropagation(); else [sent] = files;
    strip.take(files);
  }, true);
  document.addEventListener("analyzing", ({detail}) => {
    view.wait("Analyzing…");
    const before = settings;
    settings = JSON.stringify(detail);
    // The server analyzes the last photo again; the others are sent again.
    if (before !== undefined && before !== settings && !stripPlace.hidden) strip.again();
  });
  document.addEventListener("analyzed", async () => {
    await received();
    view.wait("");
    if (props.value) return;
    waiting?.failed(new Error("This file can't be analyzed."));
    waiting = null;
    view.clear();
  });
  document.addEventListener("link", ({detail}) => {
    if (!kit.links) return view.note("Links can't be opened. Copy the image itself, or save it and choose the file.");
    view.note("Fetching the image…");
    trigger("open_link", {link: detail});
  });
  document.addEventListener("note", ({detail}) => view.note(detail));
  document.addEventListener("blur-faces", ({detail}) => { view.blur(detail); strip.blur(detail); });
  watch("value", received);
  received();
}
