// The page's side of the live stream (space/live/stream.py): camera → frames through a channel → boxes drawn over the video.
// Runs as `js_on_load` of a gr.HTML, which gives `element`. The static Space (browser/) sets `element.openChannel`.
const $ = (name) => element.querySelector("." + name);
const video = $("live-video"), overlay = $("live-overlay"), status = $("live-status"), people = $("live-people");
const rate = $("live-rate"), start = $("live-start"), mirror = $("live-mirror"), camera = $("live-camera");
const stage = $("live-stage"), intro = $("live-intro"), stop = $("live-stop"), snapshot = $("live-snapshot");
const full = $("live-full"), hide = $("live-blur"), threshold = $("live-threshold");
const styles = getComputedStyle(document.documentElement);
const COLORS = Object.fromEntries(["female", "male", "uncertain"].map((name) => [name, styles.getPropertyValue(`--${name}`)]));
const EVERY = 1000 / 30;   // ms between two frames at least
const IN_FLIGHT = 2;       // frames sent and not answered: one on the way while another is analyzed
const SIDE = 640;          // pixels, longer side of a frame

let stream = null, channel = null, timer = null;
let sent = 0, answered = 0, lastSent = 0, encoding = false;
let latest = null;                      // the last answer
// Frames on their way, by number; the one of the last answer stays for the blurred view.
const frames = Array.from({length: IN_FLIGHT + 2}, () => document.createElement("canvas"));
const taken = new Map();                // number of a frame → when it was taken
let marks = [];                         // [when answered, latency] of the last two seconds

function say(text, alarm = false) {
  status.textContent = text;
  status.classList.toggle("live-alarm", alarm);
}

function explain(error) {
  if (!window.isSecureContext)
    return "Browsers allow camera access only over HTTPS or on localhost. " +
      "This page uses HTTP. Open it over HTTPS, or on the machine that runs the app.";
  switch (error?.name) {
    case "NotAllowedError": case "SecurityError":
      return "The browser blocked camera access. Allow it with the camera icon in the address bar, then start again.";
    case "NotFoundError": case "OverconstrainedError": case "DevicesNotFoundError":
      return "No camera found. Connect one, or use the Photo tab.";
    case "NotReadableError": case "AbortError": case "TrackStartError":
      return "The camera can't be opened: another application may be using it.";
  }
  return navigator.mediaDevices ? "The camera can't be opened: " + (error?.message || error)
    : "This browser doesn't support camera access. Use the Photo tab.";
}

function address() {
  const root = new URL((window.gradio_config?.root || location.origin + location.pathname).replace(/\/?$/, "/"));
  root.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  root.search = root.hash = "";
  return new URL("live", root).href;
}

async function begin() {
  start.disabled = camera.disabled = true;
  say("Waiting for the camera…");
  try {
    if (!window.isSecureContext || !navigator.mediaDevices) throw new Error("no camera");
    const wish = {width: {ideal: 640}, height: {ideal: 480}, frameRate: {ideal: 30}};
    if (camera.value) wish.deviceId = {exact: camera.value}; else wish.facingMode = "user";
    stream = await navigator.mediaDevices.getUserMedia({video: wish, audio: false});
  } catch (error) {
    end(explain(error), true);
    return;
  }
  stream.getVideoTracks()[0].addEventListener("ended", () => end("The camera was disconnected.", true));
  video.srcObject = stream;
  stop.hidden = false; intro.hidden = true;
  say("Starting the analysis…");
  draw();
  try { await video.play(); } catch (error) { /* it plays once it is on screen */ }
  list();
  connect();
}

// The server's channel: numbered JPEG frames over a WebSocket. `told`: open(), answer(object), close(reason).
function openSocket(told) {
  const socket = new WebSocket(address());
  let refused = "";
  socket.binaryType = "arraybuffer";
  socket.onopen = told.open;
  socket.onmessage = (event) => {
    const answer = JSON.parse(event.data);
    if (answer.frame === undefined) refused = answer.error; else told.answer(answer);
  };
  socket.onclose = () => told.close(refused || "The connection to the server was lost. Start again.");
  return {
    get busy() { return socket.readyState !== 1 || socket.bufferedAmount > 300000; },
    // Resolves once the frame has left, with whether it has.
    async send(number, frame) {
      const blob = await new Promise((done) => frame.toBlob(done, "image/jpeg", 0.85));
      const bytes = blob && await blob.arrayBuffer();
      if (!bytes || socket.readyState !== 1) return false;
      const message = new Uint8Array(4 + bytes.byteLength);
      new DataView(message.buffer).setUint32(0, number, true);
      message.set(new Uint8Array(bytes), 4);
      socket.send(message);
      return true;
    },
    tune(threshold) { if (socket.readyState === 1) socket.send(JSON.stringify({threshold})); },
    close() { socket.close(); },
  };
}

function connect() {
  sent = answered = 0; taken.clear(); marks = []; latest = null; encoding = false;
  const mine = channel = (element.openChannel ?? openSocket)({
    open() {
      if (mine !== channel) return;
      start.disabled = false; camera.disabled = false; snapshot.hidden = false;
      full.hidden = !element.requestFullscreen;
      if (threshold.value !== threshold.defaultValue) tune();
      say("Looking for faces…");
      timer = setInterval(send, 8);
    },
    answer(answer) {
      if (mine !== channel) return;
      const now = performance.now();
      answered = answer.frame;
      marks.push([now, now - (taken.get(answer.frame) ?? now)]);
      for (const number of taken.keys()) if (number <= answered) taken.delete(number);
      if (answer.error) say(answer.error, true);
      else { if (!latest || status.classList.contains("live-alarm")) say("Live"); latest = answer; draw(); }
    },
    close(reason) { if (mine === channel) end(reason, true); },
  });
}

function send() {
  const now = performance.now();
  // Hidden, in another tab of the page or of the browser: nothing is sent.
  if (!channel || channel.busy || encoding || !video.videoWidth || !element.offsetParent || document.hidden) return;
  if (sent - answered >= IN_FLIGHT || now - lastSent < EVERY) return;
  const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
  const mine = channel, number = sent + 1, canvas = frames[number % frames.length];
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d", {willReadFrequently: true}).drawImage(video, 0, 0, canvas.width, canvas.height);
  encoding = true; lastSent = now;
  mine.send(number, canvas).then((left) => {
    if (mine !== channel) return;
    encoding = false;
    if (left) { sent = number; taken.set(number, now); }
  });
}

function tune() {
  channel?.tune(Number(threshold.value));
}

// What is on screen, as a file of the visitor's.
function save() {
  if (!video.videoWidth) return;
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [overlay.width, overlay.height];
  const pen = picture.getContext("2d");
  const scale = Math.min(picture.width / video.videoWidth, picture.height / video.videoHeight);
  const [w, h] = [video.videoWidth * scale, video.videoHeight * scale];
  pen.fillRect(0, 0, picture.width, picture.height);
  if (mirror.checked) { pen.translate(picture.width, 0); pen.scale(-1, 1); }
  pen.drawImage(video, (picture.width - w) / 2, (picture.height - h) / 2, w, h);
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.drawImage(overlay, 0, 0);
  const link = document.createElement("a");
  link.href = picture.toDataURL("image/jpeg", 0.92);
  link.download = "live-faces.jpg";
  link.click();
}

// The analyzed frame in place of the video, which has moved on since, with an oval of a few soft patches over each face.
function cover(pen, places, scale, left, top) {
  const frame = frames[latest.frame % frames.length], patch = new OffscreenCanvas(6, 6), soft = patch.getContext("2d");
  const [width, height] = [latest.width * scale, latest.height * scale];
  pen.save();
  if (mirror.checked) { pen.translate(2 * left + width, 0); pen.scale(-1, 1); }
  pen.drawImage(frame, left, top, width, height);
  pen.restore();
  for (const [i, [x, y, w, h]] of places.entries()) {
    const [fx, fy, fw, fh] = latest.faces[i].box;
    // The part inside of the frame: beyond it there is nothing to average.
    const [x0, y0] = [Math.max(0, fx - 0.15 * fw), Math.max(0, fy - 0.2 * fh)];
    const [x1, y1] = [Math.min(frame.width, fx + 1.15 * fw), Math.min(frame.height, fy + 1.15 * fh)];
    if (x1 - x0 < 1 || y1 - y0 < 1) continue;
    soft.drawImage(frame, x0, y0, x1 - x0, y1 - y0, 0, 0, 6, 6);
    pen.save();
    pen.beginPath();
    pen.ellipse(x + w / 2, y + 0.475 * h, 0.65 * w, 0.675 * h, 0, 0, 2 * Math.PI);
    pen.clip();
    pen.drawImage(patch, x - 0.15 * w, y - 0.2 * h, 1.3 * w, 1.35 * h);
    pen.restore();
  }
}

// Boxes are mirrored with the video; text never is.
function draw() {
  const ratio = window.devicePixelRatio || 1, width = overlay.clientWidth, height = overlay.clientHeight;
  if (overlay.width !== Math.round(width * ratio) || overlay.height !== Math.round(height * ratio)) {
    overlay.width = Math.round(width * ratio); overlay.height = Math.round(height * ratio);
  }
  const pen = overlay.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  if (hide.checked && stream) { pen.fillStyle = "#111"; pen.fillRect(0, 0, width, height); }  // nobody is shown before the first answer
  if (!latest) return;
  // The video keeps its shape inside of the stage (object-fit: contain).
  const scale = Math.min(width / latest.width, height / latest.height);
  const left = (width - latest.width * scale) / 2, top = (height - latest.height * scale) / 2;
  const size = Math.max(13, Math.min(20, width / 34));
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const places = latest.faces.map((face) => {
    const [x, y, w, h] = face.box.map((v) => v * scale);
    return [left + (mirror.checked ? latest.width * scale - x - w : x), top + y, w, h];
  });
  if (hide.checked) cover(pen, places, scale, left, top);
  const free = (x, y, w, h, own) => places.every((p, i) => i === own || p[0] >= x + w || p[0] + p[2] <= x || p[1] >= y + h ||
    p[1] + p[3] <= y);
  for (const [i, face] of latest.faces.entries()) {
    const [x, y, w, h] = places[i];
    const color = COLORS[face.label.split(",")[0]] || COLORS.uncertain;
    pen.strokeStyle = pen.fillStyle = color;
    pen.lineWidth = 3;
    pen.strokeRect(x, y, w, h);
    const high = size * 1.5;
    for (const text of [`${face.id}  ${face.label}`, String(face.id)]) {
      const wide = pen.measureText(text).width + 12;
      const tx = Math.max(0, Math.min(x, width - wide)), ty = y - high >= 0 ? y - high : Math.min(y + h, height - high);
      if (!free(tx, ty, wide, high, i) && text !== String(face.id)) continue;  // in a crowd the number alone
      pen.fillRect(tx, ty, wide, high);
      pen.fillStyle = "white";
      pen.fillText(text, tx + 6, ty + high / 2);
      break;
    }
  }
}

// Twice a second, so that it can be read: the rate, the latency and who is there.
function report() {
  if (!document.contains(element)) { end(""); clearInterval(reporter); return; }
  if (!channel || !latest) return;
  const now = performance.now();
  marks = marks.filter(([when]) => now - when < 2000);
  if (!marks.length) return;
  const latencies = marks.map(([, ms]) => ms).sort((a, b) => a - b);
  const span = Math.max(500, now - marks[0][0]);
  rate.textContent = `${(1000 * marks.length / span).toFixed(1)} frames per second, ${Math.round(latencies[latencies.length >> 1])} ms latency`;
  const rows = latest.faces.map((face) => {
    const row = document.createElement("li");
    const interval = face.age_low === null ? "" : ` (${face.interval} years)`;
    row.textContent = `${face.id}: ${face.label}${interval}, ${Math.round(100 * face.gender_probability)}%`;
    row.dataset.id = face.id;
    return row;
  });
  people.replaceChildren(...rows);
  if (!status.classList.contains("live-alarm")) say(rows.length ? "Live" : "No face found");
}

function end(text, alarm = false) {
  clearInterval(timer);
  const old = channel;
  channel = null; latest = null; marks = [];
  if (old) old.close();
  if (stream) for (const track of stream.getTracks()) track.stop();
  stream = null; video.srcObject = null;
  people.replaceChildren();
  rate.textContent = "";
  draw();
  start.disabled = false; camera.disabled = false; intro.hidden = false;
  for (const button of [stop, snapshot, full]) button.hidden = true;
  say(text, alarm);
}

async function list() {
  const found = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  if (found.length < 2) return;
  const current = stream?.getVideoTracks()[0]?.getSettings().deviceId;
  camera.replaceChildren(...found.map((device, number) => new Option(device.label || `Camera ${number + 1}`, device.deviceId, false, device.deviceId === current)));
  camera.hidden = false;
}

start.addEventListener("click", begin);
stop.addEventListener("click", () => { if (document.fullscreenElement) document.exitFullscreen(); end("Stopped."); });
snapshot.addEventListener("click", save);
full.addEventListener("click", () => document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen());
document.addEventListener("fullscreenchange", () => { full.textContent = document.fullscreenElement ? "Exit full screen" : "Full screen"; });
threshold.addEventListener("change", tune);
threshold.addEventListener("input", () => { $("live-value").textContent = Number(threshold.value).toFixed(2); });
hide.addEventListener("change", draw);
mirror.addEventListener("change", () => { video.classList.toggle("live-mirrored", mirror.checked); draw(); });
camera.addEventListener("change", () => { if (stream) { end(""); begin(); } });
new ResizeObserver(draw).observe(overlay);
window.addEventListener("pagehide", () => end(""));
const reporter = setInterval(report, 500);
if (!window.isSecureContext) say(explain(), true);
