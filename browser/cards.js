// Describes the people in a photo, from the API's JSON: a summary line, a card or row for each person, and text to share.
import {confidence, intervalYears, shownPercent, wholeYears} from "./face.js";
import {listed, number as digits, t} from "./text.js";

export const MOST = 100; // people shown one by one; JSON and CSV have all
export const CROWD = 12; // more people than these are shown in rows
const SEEN = new Set(["maybe not a face", "small", "cut off", "blurred", "turned"]); // what is said of faces that can't be seen well
const WIDE = 18; // years from which an interval says more than the age in it

/** One line above the photo. `most`: how many faces are returned at most. */
export function summary({faces, elapsed_ms, rotation, incomplete}, most) {
  const n = faces.length,
    notes = [];
  if (!n)
    notes.push(
      `<strong>${t("No face found.")}</strong>`,
      t("Try a photo with larger or sharper faces, or lower the detection threshold in Settings."),
    );
  else {
    const head = n > CROWD ? crowd(faces) : t(n === 1 ? "1 face" : `${n} faces`);
    const time = elapsed_ms == null ? "" : t(`in ${Math.round(elapsed_ms)} ms`);
    notes.push(listed(`<strong>${head}</strong>${time && ` ${time}`}`, t("numbered by size.")));
  }
  if (rotation) notes.push(t(`The image was rotated by ${rotation}° to detect faces.`));
  if (incomplete) notes.push(t("The image file is incomplete: parts of it are missing."));
  if (n >= most) notes.push(t(`There may be more faces: the limit is ${most.toLocaleString("en")}.`));
  if (n > MOST) notes.push(t(`The ${MOST} largest are shown below.`));
  return notes.join(" ");
}

/** `66 people: 40 female, 20 male, 6 uncertain; median age 28` */
function crowd(faces) {
  const counts = ["female", "male", "uncertain"].map((name) => [
    faces.filter((face) => face.gender_label === name).length,
    name,
  ]);
  const ages = faces.map((face) => face.age).sort((a, b) => a - b);
  const genders = listed(...counts.map(([count, name]) => count && `${digits(count)} ${t(name)}`));
  const half = ages.length / 2,
    median = wholeYears((ages[Math.ceil(half) - 1] + ages[Math.floor(half)]) / 2);
  return t("{people} people: {genders}; median age {median}", {people: digits(faces.length), genders, median});
}

const range = (face) => `${wholeYears(face.age_low)}–${wholeYears(face.age_high)}`;
const isWide = (face) => face.age_high - face.age_low >= WIDE;

const about = (face) => t(`about ${wholeYears(face.age)}`);

/** The age as people read it, the more certain part first: `about 25 (20–33)`, or `11–35, about 25`. */
function age(face) {
  const years = about(face);
  return isWide(face) ? [range(face), years] : [years, range(face)];
}

/** `female, about 25 (20–33)` */
function inWords(face) {
  const gender = t(face.gender_label === "uncertain" ? "gender uncertain" : face.gender_label);
  return listed(gender, `${about(face)} (${range(face)})`);
}

/** All of them as plain text, a line each. */
export const asText = (faces) => faces.map((face, i) => `${i + 1}: ${inWords(face)}`).join("\n");

/**
 * An element for the list of people.
 *
 * @param face of the API's JSON.
 * @param number from 1.
 * @param thumbnail an element that shows the face, or undefined.
 * @param row whether it is a row of a crowd instead of a card; the rest of it is shown while it is "open".
 * @param why whether to offer the explanation of the age.
 */
export function card(face, number, {thumbnail, row, why}) {
  const [first, second] = age(face),
    sure = confidence(face),
    item = document.createElement("li");
  item.className = row ? "person row" : "person";
  item.dataset.n = number;
  item.tabIndex = 0;
  item.ariaLabel = `${t(`Face ${number}`)}: ${inWords(face)}`;
  // Contains only numbers and this module's own words: no visitor input becomes HTML.
  item.innerHTML = `<div class="about-face"><span class="number" aria-label="${t(`Face ${number}`)}">${number}</span>
    <strong class="age">${first}</strong><span class="likely">${second}</span>
    <span class="gender ${face.gender_label}">${sure[0].toUpperCase()}${sure.slice(1)}${SEEN.has(face.quality) ? ` · ${t(face.quality)}` : ""}</span></div>`;
  item.innerHTML += `${chart(face)}<div class="card-foot">
    ${why ? `<button type="button" class="why" data-number="${number}">${t("Why this age?")}</button>` : ""}
    <details><summary>${t("Details")}</summary>${details(face)}</details></div>`;
  if (thumbnail) item.prepend(thumbnail);
  return item;
}

function details(face) {
  const {box, score, sharpness, gender} = face;
  const [x, y, width, height] = box.map(Math.round);
  return listed(
    t(`${width} × ${height} pixels at (${x}, ${y})`),
    t(`detection score ${score.toFixed(2)}`),
    t(`sharpness ${sharpness?.toFixed(2)}`),
    `${t(gender)} ${shownPercent(face, 1)}`,
  );
}

/** The interval on an axis of 0 to 100 years, under the distribution where the network has one. */
function chart(face) {
  const [low, high] = [face.age_low, face.age_high];
  let curve = "";
  if (face.age_probs) {
    const probs = face.age_probs.slice(0, 101),
      most = Math.max(...probs, 1e-6);
    curve = `<polyline points="${probs.map((p, years) => `${years},${(26 - (24 * p) / most).toFixed(1)}`).join(" ")}"/>`;
  }
  const ticks = [0, 25, 50, 75, 100].map((years) => `<text x="${years}" y="36">${years}</text>`).join("");
  const name = listed(about(face), `${t("likely")} ${intervalYears(face)}`);
  return `<svg class="chart" viewBox="-6 0 114 38" role="img" aria-label="${name}">
    <rect x="${low.toFixed(1)}" y="2" width="${(high - low).toFixed(1)}" height="24"/>${curve}
    <line class="mark" x1="${face.age.toFixed(1)}" x2="${face.age.toFixed(1)}" y1="0" y2="28"/>
    <line x1="0" x2="101" y1="28" y2="28"/>${ticks}</svg>`;
}
