// The page's side of the live stream (space/live/stream.py): camera → frames through a channel → boxes drawn over the video.
import {blur, mark} from "./annotate.js";
import {explain, isBlockedByFrame, listCameras, openCamera} from "./camera.js";
import {save as saveFile} from "./downloads.js";
import {intervalYears, label, shownPercent} from "./face.js";
import {listed, number, t} from "./text.js";

const EVERY = 1000 / 30; // ms between two frames at least
const IN_FLIGHT = 2; // frames sent and not answered: one on the way while another is analyzed
const SIDE = 640; // pixels, longer side of a frame
const NOTICE = 4000; // ms for which a message stays that isn't about the state of the stream
const LATE = 300; // ms of latency from which the analyzed frame is shown in place of the video, which has moved on

/**
 * Run the Live tab in an element that has the content of live.html.
 *
 * @param openChannel what frames go through, as in live-socket.js.
 */
export default function liveView(element, openChannel) {
  const $ = (name) => element.querySelector(`.${name}`);
  const video = $("live-video"),
    overlay = $("live-overlay"),
    status = $("live-status"),
    people = $("live-people");
  const rate = $("live-rate"),
    start = $("live-start"),
    mirror = $("live-mirror"),
    camera = $("live-camera");
  const intro = $("live-intro"),
    stop = $("live-stop"),
    snapshot = $("live-snapshot");
  const full = $("live-full"),
    hide = $("live-blur"),
    elsewhere = $("live-elsewhere"),
    threshold = $("live-threshold");
  const styles = getComputedStyle(document.documentElement);
  const COLORS = Object.fromEntries(
    ["female", "male", "uncertain"].map((name) => [name, styles.getPropertyValue(`--${name}`)]),
  );

  let stream = null,
    channel = null,
    timer = null,
    away = false; // whether the camera was on when another tab of the page was opened
  let attempt = 0, // number of the last start
    noticed = 0; // until when a notice stays, in ms
  let sent = 0,
    answered = 0,
    lastSent = 0,
    encoding = false;
  let latest = null; // the last answer
  // Frames on their way, by number; the one of the last answer stays for the blurred view.
  const frames = Array.from({length: IN_FLIGHT + 2}, () => document.createElement("canvas"));
  const taken = new Map(); // number of a frame → when it was taken
  let chosen = false; // whether the visitor has chosen to mirror or not
  let wasChosen = false; // whether the menu of cameras had the focus
  let marks = []; // [when answered, latency] of the last two seconds

  const isShown = () => element.getClientRects().length > 0; // in full screen, there is no offsetParent

  function say(text, alarm = false) {
    if (status.textContent !== text) status.textContent = text; // screen readers read each change aloud
    status.classList.toggle("live-alarm", alarm);
  }

  async function begin() {
    const mine = ++attempt;
    away = false;
    noticed = 0;
    stop.hidden = false;
    if (document.activeElement === start) stop.focus(); // a disabled button loses the focus
    start.disabled = camera.disabled = true;
    say(t("Waiting for the camera…"));
    let given;
    try {
      given = await openCamera(camera.value);
    } catch (error) {
      if (mine !== attempt) return;
      elsewhere.href = location.href;
      elsewhere.hidden = !isBlockedByFrame(error);
      end(explain(error), true);
      return;
    }
    if (mine !== attempt) {
      // stopped while the browser asked
      for (const track of given.getTracks()) track.stop();
      return;
    }
    stream = given;
    const [track] = stream.getVideoTracks();
    // What a rear camera shows isn't a mirror image, unless the visitor wants it.
    if (!chosen) setMirror(track.getSettings().facingMode !== "environment");
    track.addEventListener("ended", () => stream === given && end(t("The camera was disconnected."), true));
    track.addEventListener("mute", () => stream === given && pause());
    track.addEventListener("unmute", () => stream === given && say(t(timer ? "Live" : "Starting the analysis…")));
    video.srcObject = stream;
    intro.hidden = true;
    say(t("Starting the analysis…"));
    draw();
    video.play().catch(() => {}); // it plays once it is on screen
    listCameras(camera, stream);
    connect();
    if (track.muted) pause();
  }

  /** The camera delivers nothing: another application uses it, or its shutter is closed. */
  function pause() {
    latest = null;
    people.replaceChildren();
    rate.textContent = "";
    draw();
    say(t("The camera sends no images: it may be covered, or another application may be using it."), true);
  }

  function connect() {
    sent = answered = 0;
    taken.clear();
    marks = [];
    latest = null;
    encoding = false;
    channel = openChannel({
      open() {
        if (mine !== channel) return;
        start.disabled = false;
        camera.disabled = false;
        if (wasChosen && document.activeElement === document.body) camera.focus();
        wasChosen = false;
        snapshot.hidden = false;
        full.hidden = !element.requestFullscreen;
        if (threshold.value !== threshold.defaultValue) tune();
        if (!stream.getVideoTracks()[0].muted) say(t("Looking for faces…"));
        clearInterval(timer);
        timer = setInterval(send, 8);
      },
      answer(answer) {
        if (mine !== channel) return;
        const now = performance.now();
        answered = answer.frame;
        marks.push([now, now - (taken.get(answer.frame) ?? now)]);
        for (const number of taken.keys()) if (number <= answered) taken.delete(number);
        if (answer.error) say(answer.error, true);
        else if (!stream.getVideoTracks()[0].muted) {
          if (!latest || status.classList.contains("live-alarm")) say(t("Live"));
          latest = answer;
          draw();
        }
      },
      close(reason) {
        if (mine === channel) end(reason, true);
      },
    });
    const mine = channel;
  }

  function send() {
    const now = performance.now();
    // Hidden, in another tab of the page or of the browser: nothing is sent.
    if (!channel || channel.busy || encoding || !video.videoWidth || !isShown() || document.hidden) return;
    if (stream.getVideoTracks()[0].muted) return;
    if (sent - answered >= IN_FLIGHT || now - lastSent < EVERY) return;
    const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
    const mine = channel,
      number = sent + 1,
      canvas = frames[number % frames.length];
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d", {willReadFrequently: true}).drawImage(video, 0, 0, canvas.width, canvas.height);
    encoding = true;
    lastSent = now;
    mine.send(number, canvas).then((left) => {
      if (mine !== channel) return;
      encoding = false;
      if (left) {
        sent = number;
        taken.set(number, now);
      }
    });
  }

  function tune() {
    channel?.tune(Number(threshold.value));
  }

  /** Hand the camera's image to the page, which opens it as a photo; with blurred faces, save what is on screen. */
  function save() {
    if (!video.videoWidth) return;
    const picture = document.createElement("canvas");
    if (hide.checked) {
      [picture.width, picture.height] = [overlay.width, overlay.height];
      picture.getContext("2d").drawImage(overlay, 0, 0);
    } else {
      [picture.width, picture.height] = [video.videoWidth, video.videoHeight];
      picture.getContext("2d").drawImage(video, 0, 0);
    }
    picture.toBlob(
      async (blob) => {
        if (hide.checked) {
          saveFile(blob, "live-faces.jpg");
          noticed = performance.now() + NOTICE;
          return say(t("Saved as {name}.", {name: "live-faces.jpg"}));
        }
        if (document.fullscreenElement) await document.exitFullscreen(); // the result isn't visible in full screen
        document.dispatchEvent(
          new CustomEvent("snapshot", {detail: new File([blob], "snapshot.jpg", {type: "image/jpeg"})}),
        );
      },
      "image/jpeg",
      0.92,
    );
  }

  // Boxes are mirrored with the video; text never is.
  function draw() {
    const ratio = window.devicePixelRatio || 1,
      width = overlay.clientWidth,
      height = overlay.clientHeight;
    if (overlay.width !== Math.round(width * ratio) || overlay.height !== Math.round(height * ratio)) {
      overlay.width = Math.round(width * ratio);
      overlay.height = Math.round(height * ratio);
    }
    const pen = overlay.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (hide.checked && stream) {
      pen.fillStyle = "#111";
      pen.fillRect(0, 0, width, height);
    } // nobody is shown before the first answer
    if (!latest) return;
    // The video keeps its shape inside of the stage (object-fit: contain).
    const scale = Math.min(width / latest.width, height / latest.height);
    const left = (width - latest.width * scale) / 2,
      top = (height - latest.height * scale) / 2;
    // The video has moved on since the analyzed frame: blurred, or late, that one is shown.
    if (hide.checked || latency() > LATE) {
      const frame = frames[latest.frame % frames.length];
      pen.save();
      pen.translate(left, top);
      if (mirror.checked) {
        pen.translate(latest.width * scale, 0);
        pen.scale(-1, 1);
      }
      // Who has no label yet is blurred as well.
      const blurred = [...latest.faces, ...latest.detected.map((box) => ({box}))];
      const picture = hide.checked ? blur(frame, blurred) : frame;
      pen.drawImage(picture, 0, 0, latest.width * scale, latest.height * scale);
      pen.restore();
    }
    const placed = latest.faces.map((face) => {
      const [x, y, w, h] = face.box.map((v) => v * scale);
      return {...face, box: [left + (mirror.checked ? latest.width * scale - x - w : x), top + y, w, h]};
    });
    const size = Math.max(13, Math.min(20, width / 34));
    mark(pen, placed, {width, height}, {colors: COLORS, lineOf: () => 3, sizeOf: () => size});
  }

  function latency() {
    const sorted = marks.map(([, ms]) => ms).sort((a, b) => a - b);
    return sorted[sorted.length >> 1] ?? 0;
  }

  // Twice a second, so that it can be read: the rate, the latency and who is there.
  function report() {
    if (!document.contains(element)) {
      end("");
      clearInterval(reporter);
      return;
    }
    // While another tab of the page is open, the camera is off.
    if (stream && !isShown()) {
      end("");
      away = true;
    } else if (away && isShown()) begin();
    if (!channel || !latest) return;
    const now = performance.now();
    marks = marks.filter(([when]) => now - when < 2000);
    if (!marks.length) return;
    const span = Math.max(500, now - marks[0][0]);
    const frequency = ((1000 * marks.length) / span).toFixed(1);
    rate.textContent = t(`${frequency} frames per second, ${Math.round(latency())} ms latency`);
    const rows = latest.faces.map((face) => {
      const row = document.createElement("li");
      const interval = ` (${t("{interval} years", {interval: intervalYears(face)})})`;
      row.textContent = `${face.id}: ${listed(label(face) + interval, shownPercent(face))}`;
      row.className = face.gender_label;
      row.dataset.id = face.id;
      return row;
    });
    people.replaceChildren(...rows);
    if (now > noticed && !status.classList.contains("live-alarm")) say(t(rows.length ? "Live" : "No face found"));
  }

  function end(text, alarm = false) {
    attempt++;
    clearInterval(timer);
    timer = null;
    const old = channel;
    channel = null;
    latest = null;
    marks = [];
    if (old) old.close();
    if (stream) for (const track of stream.getTracks()) track.stop();
    stream = null;
    video.srcObject = null;
    people.replaceChildren();
    rate.textContent = "";
    draw();
    start.disabled = false;
    camera.disabled = false;
    intro.hidden = false;
    if (text) {
      // It has ended; without a text, another camera starts.
      if (document.fullscreenElement === element) document.exitFullscreen();
      wasChosen = false;
    }
    if ([stop, snapshot, full].includes(document.activeElement)) start.focus();
    for (const button of [stop, snapshot, full]) button.hidden = true;
    say(text, alarm);
  }

  start.addEventListener("click", begin);
  start.disabled = false; // until now, a click would have been lost
  stop.addEventListener("click", () => end(t("Stopped.")));
  snapshot.addEventListener("click", save);
  full.addEventListener("click", () =>
    document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen(),
  );
  document.addEventListener("fullscreenchange", () => {
    full.textContent = t(document.fullscreenElement ? "Exit full screen" : "Full screen");
  });
  threshold.addEventListener("change", tune);
  threshold.addEventListener("input", () => {
    $("live-value").textContent = number(Number(threshold.value), 2);
  });
  hide.addEventListener("change", draw);
  function setMirror(on) {
    mirror.checked = on;
    video.classList.toggle("live-mirrored", on);
    draw();
  }
  mirror.addEventListener("change", () => {
    chosen = true;
    setMirror(mirror.checked);
  });
  camera.addEventListener("change", () => {
    if (stream) {
      wasChosen = document.activeElement === camera; // a disabled menu loses the focus
      end("");
      begin();
    }
  });
  new ResizeObserver(draw).observe(overlay);
  window.addEventListener("pagehide", () => end(""));
  const reporter = setInterval(report, 500);
  if (!window.isSecureContext) say(explain(), true);
}
