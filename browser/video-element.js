// A video where WebCodecs is missing (old browsers, pages without HTTPS): the page seeks in a video element, and the
// worker analyzes the frames that it sends. Without WebCodecs, no annotated video can be written.
import {t} from "./text.js";

const MOST_MINUTES = 10; // an annotated video is held in memory: about 25 MB a minute

/** An error for a video of so many seconds; null if it isn't too long. */
export const tooLong = (seconds) =>
  seconds > 60 * MOST_MINUTES
    ? t(`The video is too long: the limit is ${MOST_MINUTES} minutes. Trim it and try again.`)
    : null;

/** In the worker: as `annotateFrames` of video-file.js, with frames from a MessagePort; `blob` is null. */
export async function annotateFrames(port, {annotate, progress, signal}) {
  const pen = new OffscreenCanvas(1, 1).getContext("2d", {alpha: false, willReadFrequently: true});
  for (let frames = 0; ; frames++) {
    const {frame, seconds, share, error} = await next(port, signal);
    if (error) throw new Error(error);
    if (!frame) return {blob: null, extension: "", frames, seconds, silent: false};
    [pen.canvas.width, pen.canvas.height] = [frame.width, frame.height];
    pen.drawImage(frame, 0, 0);
    frame.close();
    progress(share);
    await annotate(pen, seconds);
  }
}

function next(port, signal) {
  return new Promise((done, failed) => {
    signal.throwIfAborted();
    signal.onabort = () => failed(signal.reason);
    port.onmessage = ({data}) => done(data);
    port.postMessage("next");
  });
}

/**
 * On the page: send `rate` frames for each second of a video, one whenever the port asks, then its duration.
 *
 * @returns a function that ends it.
 */
export function sendFrames(file, port, rate) {
  const video = Object.assign(document.createElement("video"), {muted: true, playsInline: true, preload: "auto"});
  video.src = URL.createObjectURL(file);
  const opened = open(video);
  opened.catch(() => {}); // the port asks later
  let sent = 0;
  async function send() {
    const {duration, error} = await opened;
    if (error) return port.postMessage({error});
    const seconds = sent++ / rate;
    if (seconds >= duration) return port.postMessage({seconds: duration});
    await at(video, seconds);
    const frame = await createImageBitmap(video);
    port.postMessage({frame, seconds, share: seconds / duration}, [frame]);
  }
  port.onmessage = () =>
    send().catch((error) => {
      console.warn(error);
      port.postMessage({error: t("This file isn't a readable video. Use MP4, MOV or WebM.")});
    });
  return () => {
    port.close();
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
  };
}

/** How long a video is, in seconds, or why it is refused; a damaged file fails. */
async function open(video) {
  await new Promise((done, failed) => Object.assign(video, {onloadeddata: done, onerror: failed}));
  if (!video.videoWidth) return {error: t("This file has no readable video track. It may be cut off.")};
  // A browser's own recordings don't say how long they are, until their end is looked for.
  if (video.duration === Number.POSITIVE_INFINITY) await at(video, 1e9);
  return {duration: video.duration, error: tooLong(video.duration)};
}

/** Seek; a damaged file fails. */
function at(video, seconds) {
  return new Promise((done, failed) => {
    Object.assign(video, {onseeked: done, onerror: failed});
    video.currentTime = seconds;
  });
}
