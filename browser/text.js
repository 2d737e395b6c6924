// The page's texts in the visitor's language. The code has them in English; languages/*.json have the others, by the
// English text. Numbers in a text are places: "5 faces" is found as "{0} faces", so a text is written as it is shown.
let language = "en",
  table = {},
  patterns = []; // of the table's texts with words that change, such as a file's name: [expression, text]

// Not those of MP4 and H.264 nor versions of licenses: the first part matches them. There is no lookbehind, which Safari
// supports only since 16.4.
const NUMBER = /(?:CC BY |MPL |[A-Za-z_.])[\d.,]*|(-?\d+(?:,\d{3})*(?:\.\d+)?)/g;
const INLINE = new Set(["A", "B", "CODE", "EM", "STRONG"]);
const KEPT = "code, pre, script, style, [translate=no], .notranslate, .filename"; // what isn't translated
const NAMED = {"aria-label": "ariaLabel", alt: "alt", placeholder: "placeholder", title: "title"};

/** What `speak` takes to make another thread's texts the same. */
export const spoken = () => [language, table];
export function speak(code, texts) {
  language = code;
  table = texts;
  patterns = Object.keys(texts)
    .filter((text) => /\{[a-z]/.test(text))
    .map((text) => [pattern(text), text]);
}
function pattern(text) {
  const parts = text.split(/\{(\w+)\}/).map((part, i) => {
    if (i % 2 === 0) return part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    return Number.isNaN(Number(part)) ? `(?<${part}>.+)` : `(?<n${part}>-?[\\d,.]+)`;
  });
  return new RegExp(`^${parts.join("")}$`);
}

/** A number as the visitor's language writes it. */
export const number = (value, digits = 0) =>
  value.toLocaleString(language, {minimumFractionDigits: digits, maximumFractionDigits: digits});

/** Parts of a sentence, with the language's comma between them; empty ones are left out. */
export const listed = (...parts) => parts.filter(Boolean).join(language === "zh" ? "，" : ", ");

/** A share from 0 to 1, in percent. */
export const percent = (share, digits = 0) =>
  share.toLocaleString(language, {style: "percent", minimumFractionDigits: digits, maximumFractionDigits: digits});

/**
 * A text in the visitor's language; in English where its table lacks it.
 *
 * @param words by {name} in the text: what isn't a number, such as a file's name.
 */
export function t(text, words = {}) {
  const numbers = [];
  const key = text.replace(NUMBER, (found, value, at) => {
    if (!value) return found;
    const hyphen = value[0] === "-" && /[\w)]/.test(text[at - 1] ?? "") ? "-" : ""; // of 10-19
    return `${hyphen}{${numbers.push(value.slice(hyphen.length)) - 1}}`;
  });
  const given = (name) => words[name] ?? inLanguage(numbers[name]);
  return Object.hasOwn(table, key)
    ? table[key].replace(/\{(\w+)\}/g, (_, name) => given(name))
    : text.replace(/\{([a-z]\w*)\}/g, (whole, name) => words[name] ?? whole);
}

/** A finished text in the visitor's language; it may have words where the table has a {name}. */
function finished(text) {
  const exact = t(text);
  if (exact !== text) return exact;
  for (const [expression, key] of patterns) {
    const words = text.match(expression)?.groups;
    if (words) return table[key].replace(/\{(\w+)\}/g, (_, name) => words[name] ?? inLanguage(words[`n${name}`]));
  }
  return text;
}

const inLanguage = (found) => {
  const digits = found.split(".")[1]?.length ?? 0;
  const value = Number(found.replaceAll(",", ""));
  return value.toLocaleString(language, {minimumFractionDigits: digits, useGrouping: found.includes(",")});
};

/** Translate all texts in an element: a paragraph with its emphasis and links as one text, if the table has it so. */
export function translate(element) {
  if (element.matches(KEPT)) return;
  translateNames(element);
  const inside = [...element.children];
  if (inside.length && inside.every((child) => INLINE.has(child.tagName) && !child.className)) {
    const key = element.innerHTML.trim().replace(/\s+/g, " "); // of the page's own HTML, like its translation
    const translated = t(key);
    if (translated !== key) {
      element.innerHTML = translated;
      return;
    }
  }
  for (const node of element.childNodes) {
    if (node.nodeType === Node.ELEMENT_NODE) translate(node);
    else if (node.nodeType === Node.TEXT_NODE) translateText(node);
  }
}

function translateNames(element) {
  for (const name of Object.values(NAMED))
    if (element[name] && t(element[name]) !== element[name]) element[name] = t(element[name]);
}

function translateText(node) {
  if (!node.data.trim()) return;
  const [, before, text, after] = node.data.match(/^((?:\s|⚠️)*)([\s\S]*?)(\s*)$/);
  const key = text.replace(/\s+/g, " "),
    translated = finished(key);
  if (translated !== key) node.data = before + translated + after;
}

/** Translate an element, and what is added to it or changes in it from then on. */
export function keepTranslated(element) {
  translate(element);
  new MutationObserver((changes) => {
    for (const {target, addedNodes, type} of changes) {
      if ((target.nodeType === Node.TEXT_NODE ? target.parentElement : target)?.closest(KEPT)) continue;
      if (type === "attributes") translateNames(target);
      for (const node of type === "characterData" ? [target] : addedNodes) {
        if (node.nodeType === Node.ELEMENT_NODE) translate(node);
        else if (node.nodeType === Node.TEXT_NODE) translateText(node);
      }
    }
  }).observe(element, {childList: true, subtree: true, characterData: true, attributeFilter: Object.keys(NAMED)});
}
