// Runs once when the page has loaded: the visitor's language, a link for each tab, and photos that are pasted or dropped anywhere.
() => {
  const root = (window.gradio_config?.root || location.origin + location.pathname).replace(/[/]*$/, "/");
  const load = (name) => import(new URL(`browser/${name}`, root).href);
  const tabs = () => [...document.querySelectorAll('[role="tab"]')].filter((tab) => tab.offsetParent);
  const name = (tab) => tab.dataset.tabId;
  let going = false;  // to a tab of the browser's history
  const openNamed = () => {
    const wanted = new URLSearchParams(location.search).get("tab")?.toLowerCase() ?? name(tabs()[0]);
    going = true;
    tabs().find((tab) => name(tab) === wanted && tab.ariaSelected !== "true")?.click();
    going = false;
  };
  openNamed();
  addEventListener("popstate", openNamed);
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.('[role="tab"]'), address = new URL(location.href);
    // Turn off the Photo tab's camera when another tab opens.
    if (tab && name(tab) !== "photo" && document.querySelector("#photo video")) document.querySelector("#photo .source-selection button")?.click();
    if (!tab || going || (address.searchParams.get("tab") ?? name(tabs()[0])) === name(tab)) return;
    address.searchParams.set("tab", name(tab));
    history.pushState(null, "", address);
  });
  const note = (text) => document.dispatchEvent(new CustomEvent("note", {detail: text}));
  const openLink = async (detail) => {
    tabs()[0].click();
    await built("#result .result");
    document.dispatchEvent(new CustomEvent("link", {detail}));
  };
  const isVideo = (file) => file.type.startsWith("video/") || /\.(mkv|mov|mp4|m4v|webm|avi)$/i.test(file.name);
  const isZip = (file) => /\.zip$/i.test(file.name);
  /** Wait until Gradio has built what is on a tab; it does when the tab is first opened. */
  const built = async (selector) => {
    for (let i = 0; i < 300 && !document.querySelector(selector); i++) await new Promise((done) => setTimeout(done, 100));
    return document.querySelector(selector);
  };
  // The URL of the API documentation. Gradio then considers the panel open but doesn't show it.
  const isDocumentation = () => new URLSearchParams(location.search).get("view") === "api";
  if (isDocumentation()) built("footer .show-api").then(async (button) => {
    button?.click();
    await new Promise((done) => setTimeout(done, 100));
    if (!isDocumentation()) button?.click();
  });
  /** Give files to a tab's own input, as if they were chosen there. */
  const put = async (tab, place, files) => {
    tabs().find((one) => name(one) === tab).click();
    await built(place);
    // An input that has a file has no place for another: its last button removes that file.
    if (!document.querySelector(`${place} input[type=file]`)) document.querySelector(`${place} .icon-button-wrapper button:last-of-type`)?.click();
    const input = await built(`${place} input[type=file]`), moved = new DataTransfer();
    if (!input) return;
    for (const file of input.multiple ? files : files.slice(0, 1)) moved.items.add(file);
    input.files = moved.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  };
  const isImage = (file) => file.type.startsWith("image/") || /\.(heic|heif|avif)$/i.test(file.name);
  // Browsers don't know the type of some images; the server goes by their content. A folder can't be read.
  const mayBeImage = (file) => !file.type && file.slice(0, 1).arrayBuffer().then(({byteLength}) => byteLength > 0, () => false);
  /** Open the images of some files on the Photo tab. `adds`: beside the photos that are there. */
  const take = async (files, adds = false) => {
    const all = [...files];
    let images = all.filter(isImage);
    if (!images.length) {
      const videos = all.filter(isVideo);
      if (videos.length) return put("video", "#video", videos);
      if (all.some(isZip)) return put("folder", "#files", all);
      const readable = await Promise.all(all.map(mayBeImage));
      images = all.filter((file, i) => readable[i]);
    }
    tabs()[0].click();
    if (!images.length) return note("This file isn't an image. Use the Video tab for videos, and the Folder tab for ZIP files.");
    await built("#result .result");  // until its modules are there, nobody listens
    const left = all.length - images.length;
    const others = left === 1 ? "1 file isn't an image and wasn't opened." : `${left} files aren't images and weren't opened.`;
    const detail = {files: images, adds, note: left ? `${others} Use the Video tab for videos, and the Folder tab for ZIP files.` : ""};
    document.dispatchEvent(new CustomEvent("photos", {detail}));
  };
  // Gradio's camera and clipboard buttons show no message when the browser denies access.
  let inPhoto = false;
  document.addEventListener("click", ({target}) => { inPhoto = Boolean(target.closest?.("#photo")); }, true);
  addEventListener("unhandledrejection", async ({reason}) => {
    if (!inPhoto || !(reason instanceof DOMException) || reason.name === "AbortError") return;
    const isClipboard = /clipboard|read permission/i.test(reason.message);
    note(isClipboard ? "The browser blocked access to the clipboard. Press Ctrl+V (⌘V on a Mac) to paste an image." : (await load("camera.js")).explain(reason));
  });
  document.addEventListener("paste", (event) => {
    if (event.target.closest?.("input[type=text], textarea")) return;
    const {files} = event.clipboardData;
    if (files.length) { event.preventDefault(); take(files, true); }
    else if (/^https?:/.test(event.clipboardData.getData("text"))) openLink(event.clipboardData.getData("text"));
  });
  // A browser would open a file that is dropped beside a drop zone, and Gradio takes one image of several.
  document.addEventListener("dragover", (event) => event.preventDefault());
  let own = false;  // whether the drag started on this page, for example from a thumbnail or selected text
  // An element that is removed while it is dragged gets no "dragend". Pointers don't move during a drag.
  for (const kind of ["dragstart", "dragend", "pointermove"]) document.addEventListener(kind, ({type}) => { own = type === "dragstart"; });
  document.addEventListener("drop", (event) => {
    const panel = event.target.closest?.('[role="tabpanel"]');
    if (event.target.closest?.("#video, #files")) return;  // these take files themselves
    event.preventDefault();
    event.stopPropagation();
    if (own) return;
    const folders = [...event.dataTransfer.items].filter(({kind}) => kind === "file").map((item) => item.webkitGetAsEntry()?.isDirectory);
    const files = [...event.dataTransfer.files].filter((_, i) => !folders[i]);
    if (folders.length && !files.length) {
      tabs()[0].click();
      built("#result .result").then(() => note("Folders can't be opened. Choose the images in the folder on the Folder tab, or a ZIP file."));
      return;
    }
    if (files.length && panel?.querySelector("#files")) return put("folder", "#files", files);  // beside the zone
    const link = event.dataTransfer.getData("text/uri-list") || event.dataTransfer.getData("text");
    if (files.length) take(files); else if (/^https?:/.test(link)) openLink(link.split("\n")[0]);
  }, true);
  // The server reads more videos than browsers play, and says so if it doesn't: not Gradio as well.
  document.addEventListener("error", (event) => { if (event.target.closest?.("#video")) event.stopPropagation(); }, true);
  document.addEventListener("snapshot", ({detail}) => take([detail], true));
  // Gradio leaves the examples without a name for those who don't see them. Ours are in the names of the files.
  const label = (t) => {
    for (const english of document.querySelectorAll(".notranslate:not([lang])")) english.lang = "en";
    document.querySelector("#photo input[type=file]")?.setAttribute("multiple", "");
    for (const status of document.querySelectorAll("#video-status, #batch-status")) {
      const failed = status.textContent.trim().startsWith("⚠️");
      status.classList.toggle("error", failed);
      status.role = failed ? "alert" : null; // progress would be read aloud all the time
    }
    for (const button of document.querySelectorAll('[title="common.upload"]')) button.title = button.ariaLabel = t("Upload");
    for (const item of document.querySelectorAll(".gallery .gallery-item")) {
      const [, low, high, gender] = /age-(\d+)-(\d+)-(\w+)/.exec(item.querySelector("img")?.src ?? "") ?? [];
      const who = low < 13 ? "child" : {female: "woman", male: "man"}[gender];
      const years = high === "99" ? `over ${low}` : `${Number(low)} to ${Number(high)} years`;
      const several = item.querySelector("img") ? "group" : "two people";
      item.ariaLabel ??= t(who ? `Example: ${who}, ${years}` : `Example: ${several}`);
    }
  };
  Promise.all([load("languages.js"), load("text.js")]).then(async ([{translatePage}, {t}]) => {
    await translatePage(document.querySelector("#language"), {changing: true});
    label(t);
    new MutationObserver(() => label(t)).observe(document.body, {childList: true, subtree: true, attributeFilter: ["title"]});
  });
}
