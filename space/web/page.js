// Runs once when the page has loaded: a link for each tab, and pasting a photo anywhere.
() => {
  const tabs = () => [...document.querySelectorAll('[role="tab"]')].filter((tab) => tab.offsetParent);
  const name = (tab) => tab.textContent.trim().toLowerCase();
  const wanted = new URLSearchParams(location.search).get("tab");
  tabs().find((tab) => name(tab) === wanted)?.click();
  document.addEventListener("click", (event) => {
    const tab = event.target.closest?.('[role="tab"]');
    if (!tab) return;
    const address = new URL(location.href);
    address.searchParams.set("tab", name(tab));
    history.replaceState(null, "", address);
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
    const input = document.querySelector("#photo input[type=file]");
    if (!file || !input || event.target.closest?.("input[type=text], textarea")) return;
    event.preventDefault();
    const files = new DataTransfer();
    files.items.add(file);
    input.files = files.files;
    input.dispatchEvent(new Event("change", {bubbles: true}));
  });
  // Gradio leaves the examples without a name for those who don't see them.
  const label = () => {
    for (const gallery of document.querySelectorAll(".gallery"))
      [...gallery.querySelectorAll(".gallery-item")].forEach((item, number) => { item.ariaLabel ??= `Example ${number + 1}`; });
  };
  label();
  new MutationObserver(label).observe(document.body, {childList: true, subtree: true});
}
