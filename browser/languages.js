// Which language the page is in: that of its address, the one chosen last, or the browser's.
import {keepTranslated, speak, translate} from "./text.js";

const NAMES = {en: "English", de: "Deutsch", es: "Español", fr: "Français", zh: "中文"};
const CHOSEN = "language"; // key in the browser's storage

/** The first of the visitor's languages that the page has. */
function preferred() {
  const wishes = [new URLSearchParams(location.search).get("lang"), remembered(), ...navigator.languages];
  return wishes.map((wish) => wish?.toLowerCase().split("-")[0]).find((code) => Object.hasOwn(NAMES, code)) ?? "en";
}

let loading = null;
/** Load the texts of the visitor's language, once; its code. Without them, texts stay in English. */
export function chosen() {
  loading ??= load(preferred()).catch((error) => {
    console.warn(error);
    return "en";
  });
  return loading;
}
async function load(code) {
  if (code === "en") return code;
  const response = await fetch(new URL(`languages/${code}.json`, import.meta.url));
  if (!response.ok) throw new Error(`languages/${code}.json: status ${response.status}`);
  speak(code, await response.json());
  return code;
}

/** Offer the languages in a menu. */
function offer(menu) {
  const code = preferred();
  menu.replaceChildren(...Object.entries(NAMES).map(([one, name]) => new Option(name, one, false, one === code)));
  for (const option of menu.options) option.lang = option.value;
  menu.addEventListener("change", () => {
    remember(menu.value);
    const address = new URL(location.href);
    address.searchParams.set("lang", menu.value);
    location.assign(address);
  });
}

/** Translate the page, and what a framework adds to it later if it is `changing`; `menu` offers the languages. */
export async function translatePage(menu, {changing = false} = {}) {
  offer(menu);
  const code = await chosen();
  document.documentElement.lang = code;
  if (code !== "en") (changing ? keepTranslated : translate)(document.documentElement);
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
