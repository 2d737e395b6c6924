// The Photo tab of the app: shows the server's JSON with the browser page's modules. A function of these modules and of
// what a gr.HTML gives to `js_on_load`.
([{fromJson, resultView}, {openPhoto}], {element, props, trigger, watch}, kit) => {
  const styles = getComputedStyle(document.documentElement);
  const colors = Object.fromEntries(["female", "male", "uncertain"].map((name) => [name, styles.getPropertyValue(`--${name}`)]));
  const view = resultView(element, {...kit, colors}, (number) => trigger("why", {number}));
  let own = null, newest = 0;  // the file that was chosen last, as this browser reads it

  // What a visitor chooses is shown at once, from the file, before it has been uploaded.
  document.addEventListener("change", async ({target}) => {
    if (!target.matches?.("#photo input[type=file]") || !target.files[0]) return;
    const mine = ++newest;
    own = null;
    view.wait("Uploading…");
    try {
      const photo = await openPhoto(target.files[0]);
      if (mine !== newest) return;
      own = photo;
      if (element.hasAttribute("aria-busy")) view.wait("Uploading…", photo.canvas);
    } catch { /* a file that only the server reads, or nobody does */ }
  }, true);
  document.addEventListener("analyzing", () => view.wait("Analyzing…"));
  document.addEventListener("analyzed", () => { view.wait(""); if (!props.value) view.clear(); });
  document.addEventListener("note", ({detail}) => view.note(detail));
  document.addEventListener("blur-faces", ({detail}) => view.blur(detail));

  async function show() {
    const given = props.value;
    if (!given) return view.clear();
    const result = JSON.parse(given), shown = await fromJson(result);
    if (props.value !== given) return;
    // The visitor's own file has all pixels, if what the browser reads is what the server has analyzed.
    const fits = (side) => Math.abs(own.canvas[side] * own.factor - result[side]) < 2;
    if (own?.name === result.name && fits("width") && fits("height")) Object.assign(shown, {image: own.canvas, factor: own.factor});
    view.show(shown);
  }
  watch("value", show);
  show();
}
