// The page in the visitor's language, and the menu that changes it.
import "./preferred.js";
import {keepTranslated, speak, t, translate} from "./text.js";

const {code: preferred, names, remember} = globalThis.pageLanguage;

let loading = null;
/** Load the texts of the visitor's language, once; its code. Without them, texts stay in English. */
export function chosen() {
  loading ??= load(preferred).catch((error) => {
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

/** Ask before something is lost. Not `confirm`, which browsers refuse in frames such as those of Spaces. */
function agrees(text) {
  const dialog = document.createElement("dialog"),
    form = document.createElement("form"),
    question = document.createElement("p");
  question.textContent = text;
  form.method = "dialog";
  form.append(
    question,
    ...["Reload", "Cancel"].map((name) =>
      Object.assign(document.createElement("button"), {value: name, textContent: t(name)}),
    ),
  );
  dialog.className = "ask";
  dialog.append(form);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((done) =>
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "Reload");
    }),
  );
}

/** Offer the languages in a menu. */
function offer(menu) {
  menu.replaceChildren(
    ...Object.entries(names).map(([code, name]) => new Option(name, code, false, code === preferred)),
  );
  for (const option of menu.options) option.lang = option.value;
  if (history.state?.language) {
    menu.focus(); // where it was before the page was loaded in this language
    history.replaceState(null, "");
  }
  menu.addEventListener("change", async () => {
    // A visitor's photos or video are open.
    if (document.body.dataset.own && !(await agrees(t("The page reloads, and your files and results are removed.")))) {
      menu.value = preferred;
      return;
    }
    remember(menu.value);
    const address = new URL(location.href);
    address.searchParams.set("lang", menu.value);
    history.replaceState({language: menu.value}, "", address);
    location.reload();
  });
}

/** Translate the page, and what a framework adds to it later if it is `changing`; `menu` offers the languages. */
export async function translatePage(menu, {changing = false} = {}) {
  offer(menu);
  const code = await chosen();
  document.documentElement.lang = code;
  if (code !== "en") (changing ? keepTranslated : translate)(document.documentElement);
}
