// A photo's result: the annotated image, and a card for everyone in it, as space/web/cards.py.
import {apparentGender, confidence, gender, genderProbability, intervalYears, wholeYears} from "./face.js";

export const MOST = 100;  // people shown one by one; JSON and CSV have all

/** One line above the image. */
export function summary(faces, {elapsed_ms, rotation}, limits) {
  if (!faces.length)
    return "<strong>No face found.</strong> Try a photo with larger or sharper faces, or lower the detection threshold in Settings.";
  let text = `<strong>${faces.length.toLocaleString("en")} face${faces.length > 1 ? "s" : ""}</strong> in ${Math.round(elapsed_ms)} ms, numbered by size.`;
  if (rotation) text += ` The image was rotated by ${rotation}° to detect faces.`;
  if (faces.length === limits.max_faces) text += ` There may be more: at most ${limits.max_faces.toLocaleString("en")} are returned.`;
  return faces.length > MOST ? `${text} The ${MOST} largest are shown below.` : text;
}

/** Elements for the list of people. */
export function cards(faces, {size, limits, blurred}) {
  return faces.slice(0, MOST).map((face, i) => {
    const percent = 100 * genderProbability(face), sure = confidence(face, limits), [x, y, width, height] = face.box;
    const item = document.createElement("li");
    item.className = "person";
    item.dataset.n = i + 1;
    item.tabIndex = 0;
    item.ariaLabel = `Face ${i + 1}: age ${wholeYears(face.age)}, ${sure}`;
    // Numbers and words of this module alone: nothing of a visitor's becomes HTML.
    item.innerHTML = `<div class="about-face"><span class="number" aria-label="Face ${i + 1}">${i + 1}</span>
      <strong class="age">${wholeYears(face.age)}</strong>
      <span class="likely">${face.age_low == null ? "" : `likely ${wholeYears(face.age_low)}–${wholeYears(face.age_high)}`}</span>
      <span class="gender ${apparentGender(face, limits)}">${sure[0].toUpperCase()}${sure.slice(1)}</span></div>${chart(face)}
      <div class="card-foot"><details><summary>Details</summary>${width.toFixed(0)} × ${height.toFixed(0)} pixels at
      (${x.toFixed(0)}, ${y.toFixed(0)}), detection score ${face.score.toFixed(2)}, ${gender(face)} ${percent.toFixed(1)}%</details></div>`;
    if (!blurred) item.prepend(thumbnail(face, size, i + 1));
    return item;
  });
}

function thumbnail({crop}, size, number) {
  const canvas = document.createElement("canvas"), image = new ImageData(size, size);
  canvas.width = canvas.height = size;
  canvas.role = "img";
  canvas.ariaLabel = `Face ${number}`;
  for (let i = 0, at = 0; i < crop.length; i += 3, at += 4) image.data.set([crop[i], crop[i + 1], crop[i + 2], 255], at);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** The interval on an axis of 0 to 100 years, under the distribution where the network has one. */
function chart(face) {
  const [low, high] = [face.age_low ?? face.age, face.age_high ?? face.age];
  let curve = "";
  if (face.age_probs) {
    const probs = [...face.age_probs].slice(0, 101), most = Math.max(...probs, 1e-6);
    curve = `<polyline points="${probs.map((p, years) => `${years},${(26 - 24 * p / most).toFixed(1)}`).join(" ")}"/>`;
  }
  const ticks = [0, 25, 50, 75, 100].map((years) => `<text x="${years}" y="36">${years}</text>`).join("");
  return `<svg class="chart" viewBox="-6 0 114 38" role="img" aria-label="age ${wholeYears(face.age)}, ${intervalYears(face)}">
    <rect x="${low.toFixed(1)}" y="2" width="${(high - low).toFixed(1)}" height="24"/>${curve}
    <line class="mark" x1="${face.age.toFixed(1)}" x2="${face.age.toFixed(1)}" y1="0" y2="28"/>
    <line x1="0" x2="101" y1="28" y2="28"/>${ticks}</svg>`;
}
