// Loads the page's modules, and says so when that fails: the first thing that runs.
async function start() {
  const {translatePage} = await import("./languages.js");
  await translatePage(document.querySelector("#language"));
  await import("./app.js");
}
start().catch((error) => {
  console.error(error);
  document.querySelector("#loading").textContent =
    "The page couldn't be loaded completely. Check the network, then reload the page. If this doesn't help, update the browser.";
});
