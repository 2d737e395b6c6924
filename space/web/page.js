// Runs once when the page has loaded: a link for each tab, and pasting a photo anywhere.
() => {
  const tabs = () => [...document.querySelectorAll('[role="tab"]')].filter((tab) => tab.offsetParent);
  const name = (tab) => tab.textContent.trim().toLowerCase();
  const wanted = new URLSearchParams(location.search).get("tab")?.toLowerCase();
  tabs().find((tab) => name(tab) === wanted)?.click();
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.('[role="tab"]');
    if (!tab) return;
    const address = new URL(location.href);
    address.searchParams.set("tab", name(tab));
    history.replaceState(null, "", address);
  });
  // Paste or drop a photo anywhere on the Photo tab.
  const take = (event, files) => {
    const input = document.querySelector("#photo input[type=file]");
    const file = [...(files ?? [])].find((one) => one.type.startsWith("image/") || /\.(heic|heif|avif)$/i.test(one.name));
    if (!file || !input?.closest('[role="tabpanel"]')?.offsetParent) return;
    event.preventDefault();
    const chosen = new DataTransfer();
    chosen.items.add(file);
    input.files = chosen.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  };
  document.addEventListener("paste", (event) => {
    if (!event.target.closest?.("input[type=text], textarea")) take(event, event.clipboardData?.files);
  });
  // A browser would open a file that is dropped beside a drop zone.
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (event.defaultPrevented || event.target.closest?.("#photo, #video, #files")) return;
    event.preventDefault();
    take(event, event.dataTransfer?.files);
  });
  // Gradio leaves the examples without a name for those who don't see them.
  const label = () => {
    for (const gallery of document.querySelectorAll(".gallery"))
      [...gallery.querySelectorAll(".gallery-item")].forEach((item, number) => { item.ariaLabel ??= `Example ${number + 1}`; });
  };
  label();
  new MutationObserver(label).observe(document.body, {childList: true, subtree: true});
}
