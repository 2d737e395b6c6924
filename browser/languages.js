// Which language the page is in: that of its address, the one chosen last, or the browser's.
import {speak, translate} from "./text.js";

const NAMES = {en: "English", de: "Deutsch", es: "Español", fr: "Français", zh: "中文"};
const CHOSEN = "language"; // key in the browser's storage

/** The first of the visitor's languages that the page has. */
function preferred() {
  const wishes = [new URLSearchParams(location.search).get("lang"), remembered(), ...navigator.languages];
  return wishes.map((wish) => wish?.toLowerCase().split("-")[0]).find((code) => Object.hasOwn(NAMES, code)) ?? "en";
}

/** Translate the page, and offer the others in a menu. Without the file of a language it stays in English. */
export async function translatePage(menu) {
  const code = preferred();
  menu.replaceChildren(...Object.entries(NAMES).map(([one, name]) => new Option(name, one, false, one === code)));
  for (const option of menu.options) option.lang = option.value;
  menu.addEventListener("change", () => {
    remember(menu.value);
    const address = new URL(location.href);
    address.searchParams.set("lang", menu.value);
    location.assign(address);
  });
  if (code === "en") return;
  const response = await fetch(`languages/${code}.json`);
  if (!response.ok) return;
  speak(code, await response.json());
  translate(document.documentElement);
  document.documentElement.lang = code;
}

// Storage is refused in some frames and private windows.
function remembered() {
  try {
    return localStorage.getItem(CHOSEN);
  } catch {
    return null;
  }
}
function remember(code) {
  try {
    localStorage.setItem(CHOSEN, code);
  } catch {} // the address has it
}
