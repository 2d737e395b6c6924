// The language that the page is in: that of its address, the one chosen last, or the browser's. A module of the static
// page; the app's page runs it as a script, before Gradio reads `navigator.language`.
{
  const NAMES = {en: "English", de: "Deutsch", es: "Español", fr: "Français", zh: "中文"};
  const CHOSEN = "language"; // key in the browser's storage, which some frames and private windows refuse
  const remembered = () => {
    try {
      return localStorage.getItem(CHOSEN);
    } catch {
      return null;
    }
  };
  const remember = (code) => {
    try {
      localStorage.setItem(CHOSEN, code);
    } catch {} // the address has it
  };
  const wishes = [new URLSearchParams(location.search).get("lang"), remembered(), ...navigator.languages];
  const codes = wishes.map((wish) => wish?.toLowerCase().split("-")[0]);
  const code = codes.find((code) => Object.hasOwn(NAMES, code)) ?? "en";
  globalThis.pageLanguage = {code, names: NAMES, remember};
}
