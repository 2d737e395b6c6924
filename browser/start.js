// Loads the page's modules, and says so when that fails: the first thing that runs.
import("./app.js").catch((error) => {
  console.error(error);
  document.querySelector("#loading").textContent =
    "The page couldn't be loaded completely. Check the network, then reload the page.";
});
