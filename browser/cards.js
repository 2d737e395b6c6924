// Describes the people in a photo, from the API's JSON: a summary line, a card or row for each person, and text to share.
import {confidence, wholeYears} from "./face.js";

export const MOST = 100; // people shown one by one; JSON and CSV have all
export const CROWD = 12; // more people than these are shown in rows
const SEEN = new Set(["maybe not a face", "small", "cut off", "blurred", "turned"]); // what is said of faces that can't be seen well
const WIDE = 18; // years from which an interval says more than the age in it

/** One line above the photo. `most`: how many faces are returned at most. */
export function summary({faces, elapsed_ms, rotation, incomplete}, most) {
  const missing = incomplete ? " The image file is incomplete: parts of it are missing." : "";
  if (!faces.length)
    return `<strong>No face found.</strong> Try a photo with larger or sharper faces, or lower the detection threshold in Settings.${missing}`;
  const number = (n) => n.toLocaleString("en");
  let text =
    faces.length > CROWD
      ? `<strong>${crowd(faces)}</strong>`
      : `<strong>${faces.length} face${faces.length > 1 ? "s" : ""}</strong>`;
  text += elapsed_ms == null ? ", numbered by size." : ` in ${Math.round(elapsed_ms)} ms, numbered by size.`;
  if (rotation) text += ` The image was rotated by ${rotation}° to detect faces.`;
  text += missing;
  if (faces.length >= most) text += ` There may be more faces: the limit is ${number(most)}.`;
  return faces.length > MOST ? `${text} The ${MOST} largest are shown below.` : text;
}

/** `66 people: 40 female, 20 male, 6 uncertain; median age 28` */
function crowd(faces) {
  const counts = ["female", "male", "uncertain"].map((name) => [
    faces.filter((face) => face.gender_label === name).length,
    name,
  ]);
  const ages = faces.map((face) => face.age).sort((a, b) => a - b);
  const genders = counts
    .filter(([count]) => count)
    .map((pair) => pair.join(" "))
    .join(", ");
  return `${faces.length.toLocaleString("en")} people: ${genders}; median age ${wholeYears(ages[ages.length >> 1])}`;
}

const range = (face) => `${wholeYears(face.age_low)}–${wholeYears(face.age_high)}`;
const hasRange = (face) => face.age_low != null;
const isWide = (face) => hasRange(face) && face.age_high - face.age_low >= WIDE;

/** The age as people read it, the more certain part first: `about 25 (20–33)`, or `11–35, about 25`. */
function age(face) {
  const years = `about ${wholeYears(face.age)}`;
  return isWide(face) ? [range(face), years] : [years, hasRange(face) ? range(face) : ""];
}

/** `female, about 25 (20–33)` */
export function inWords(face) {
  const gender = face.gender_label === "uncertain" ? "gender uncertain" : face.gender_label;
  return `${gender}, about ${wholeYears(face.age)}${hasRange(face) ? ` (${range(face)})` : ""}`;
}

/** All of them as plain text, a line each. */
export const asText = (faces) => faces.map((face, i) => `${i + 1}: ${inWords(face)}`).join("\n");

/**
 * An element for the list of people.
 *
 * @param face of the API's JSON.
 * @param number from 1.
 * @param thumbnail an element that shows the face, or undefined.
 * @param row whether it is a row of a crowd instead of a card.
 * @param why whether to offer the explanation of the age.
 */
export function card(face, number, {thumbnail, row, why}) {
  const [first, second] = age(face),
    sure = confidence(face),
    [x, y, width, height] = face.box,
    item = document.createElement("li");
  item.className = row ? "person row" : "person";
  item.dataset.n = number;
  item.tabIndex = 0;
  item.ariaLabel = `Face ${number}: ${inWords(face)}`;
  // Contains only numbers and this module's own words: no visitor input becomes HTML.
  item.innerHTML = `<div class="about-face"><span class="number" aria-label="Face ${number}">${number}</span>
    <strong class="age">${first}</strong><span class="likely">${second}</span>
    <span class="gender ${face.gender_label}">${sure[0].toUpperCase()}${sure.slice(1)}${SEEN.has(face.quality) ? ` · ${face.quality}` : ""}</span></div>`;
  if (!row) {
    item.innerHTML += `${chart(face)}<div class="card-foot">
      ${why ? `<button type="button" class="why" data-number="${number}">Why this age?</button>` : ""}
      <details><summary>Details</summary>${width.toFixed(0)} × ${height.toFixed(0)} pixels at (${x.toFixed(0)}, ${y.toFixed(0)}),
      detection score ${face.score.toFixed(2)}, sharpness ${face.sharpness?.toFixed(2)}, ${face.gender} ${(100 * face.gender_probability).toFixed(1)}%</details></div>`;
  }
  if (thumbnail) item.prepend(thumbnail);
  return item;
}

/** The interval on an axis of 0 to 100 years, under the distribution where the network has one. */
function chart(face) {
  const [low, high] = [face.age_low ?? face.age, face.age_high ?? face.age];
  let curve = "";
  if (face.age_probs) {
    const probs = face.age_probs.slice(0, 101),
      most = Math.max(...probs, 1e-6);
    curve = `<polyline points="${probs.map((p, years) => `${years},${(26 - (24 * p) / most).toFixed(1)}`).join(" ")}"/>`;
  }
  const ticks = [0, 25, 50, 75, 100].map((years) => `<text x="${years}" y="36">${years}</text>`).join("");
  const likely = hasRange(face) ? `, likely ${wholeYears(face.age_low)} to ${wholeYears(face.age_high)}` : "";
  return `<svg class="chart" viewBox="-6 0 114 38" role="img" aria-label="about ${wholeYears(face.age)}${likely}">
    <rect x="${low.toFixed(1)}" y="2" width="${(high - low).toFixed(1)}" height="24"/>${curve}
    <line class="mark" x1="${face.age.toFixed(1)}" x2="${face.age.toFixed(1)}" y1="0" y2="28"/>
    <line x1="0" x2="101" y1="28" y2="28"/>${ticks}</svg>`;
}
