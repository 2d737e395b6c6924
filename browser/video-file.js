// A video file → the same video, annotated. Mediabunny reads and writes files, WebCodecs decodes and encodes.
import {t} from "./text.js";
import {tooLong} from "./video-element.js";
import {
  ALL_FORMATS,
  BlobSource,
  BufferTarget,
  canEncodeVideo,
  Conversion,
  Input,
  Mp4OutputFormat,
  Output,
  Quality,
  WebMOutputFormat,
} from "./video/mediabunny.min.mjs";

const BITS = 4.3; // per second and pixel, of WebM

/**
 * Draw on each frame of a video.
 *
 * @param file a Blob.
 * @param annotate called with the context of a canvas that shows a frame, upright, and the frame's time in seconds;
 *   it draws on the canvas and may be asynchronous.
 * @param side pixels, longer side of the annotated video at most: all of it is held in memory.
 * @param progress called with the share that is done, 0 to 1.
 * @param signal an AbortSignal that ends the work.
 * @returns {blob, extension, frames, seconds, silent, damaged}; silent: the audio is left out; damaged: the file is
 *   longer than what could be read.
 * @throws an Error for people to read, or the signal's reason.
 */
export async function annotateFrames(file, {annotate, progress, side, signal}) {
  const input = new Input({source: new BlobSource(file), formats: ALL_FORMATS});
  let conversion,
    failure,
    frames = 0,
    seconds = 0; // when the frames so far end, from the first one
  const stop = () => conversion?.cancel().catch(() => {});
  try {
    const {track, length} = await readable(input);
    const shown = [await track.getDisplayWidth(), await track.getDisplayHeight()],
      scale = Math.min(1, side / Math.max(...shown)),
      [width, height] = shown.map((pixels) => even(Math.round(pixels * scale)));
    const {format, codec, quality} = await encoding(width, height);
    const pen = new OffscreenCanvas(width, height).getContext("2d", {alpha: false, willReadFrequently: true});
    const output = new Output({format, target: new BufferTarget()});
    const process = async (sample) => {
      signal.throwIfAborted();
      try {
        sample.draw(pen, 0, 0, width, height);
        await annotate(pen, Math.max(0, sample.timestamp)); // as players count: audio may begin first
        frames++;
        seconds = Math.max(seconds, sample.timestamp + sample.duration);
        return pen.canvas;
      } catch (error) {
        failure = error;
        throw error;
      }
    };
    conversion = await Conversion.init({
      input,
      output,
      tracks: "primary",
      tags: {}, // no place and no device of the original
      showWarnings: false,
      video: {
        codec,
        quality,
        width,
        height,
        fit: "fill",
        forceTranscode: true,
        allowTransformationMetadata: false,
        process,
      },
    });
    if (!conversion.utilizedTracks.includes(track)) throw new TypeError("the video track can't be encoded");
    conversion.onProgress = progress;
    signal.addEventListener("abort", stop);
    signal.throwIfAborted();
    await conversion.execute();
    return {
      blob: new Blob([output.target.buffer], {type: format.mimeType}),
      extension: format.fileExtension,
      frames,
      seconds,
      damaged: length - seconds > 1,
      silent: conversion.discardedTracks.some((discarded) => discarded.track.isAudioTrack()),
    };
  } catch (error) {
    if (conversion?.state !== "canceled") await stop();
    signal.throwIfAborted();
    if (failure || error instanceof VideoError) throw failure ?? error;
    console.warn(error);
    throw new VideoError(t("The video is damaged, or this browser can't convert it. Convert it to MP4 and try again."));
  } finally {
    signal.removeEventListener("abort", stop);
    input.dispose();
  }
}

class VideoError extends Error {}

/** The video track, and how long the file says it is, in seconds. */
async function readable(input) {
  if (!(await input.canRead())) throw new VideoError(t("This file isn't a readable video. Use MP4, MOV or WebM."));
  const track = await input.getPrimaryVideoTrack();
  if (!track) throw new VideoError(t("This file has no readable video track. It may be cut off."));
  if (!(await track.canDecode())) {
    const codec = (await track.getCodec()) ?? (await track.getInternalCodecId()) ?? "its codec";
    throw new VideoError(
      codec === "avc" // H.264 itself: Firefox leaves it to the system
        ? t("This browser can't decode H.264 videos on this system. Use another browser, or convert the video to WebM.")
        : t("This browser can't decode the video ({codec}). Convert it to H.264 and try again.", {codec}),
    );
  }
  const [start, end] = [await track.getFirstTimestamp(), await track.computeDuration()];
  const length = end - start,
    long = tooLong(length);
  if (long) throw new VideoError(long);
  return {track, length};
}

/** How to encode: H.264 where the browser can, as every player reads it. */
async function encoding(width, height) {
  const bitrate = Math.round(BITS * width * height);
  const ways = [
    ["avc", new Quality("high"), () => new Mp4OutputFormat({fastStart: "in-memory"})],
    ["vp9", new Quality({bitrate}), () => new WebMOutputFormat()],
    ["vp8", new Quality({bitrate}), () => new WebMOutputFormat()],
  ];
  for (const [codec, quality, format] of ways)
    if (await canEncodeVideo(codec, {width, height, quality})) return {codec, quality, format: format()};
  throw new VideoError(t("This browser can't encode videos of this size. Use a smaller video."));
}

const even = (n) => Math.max(2, n - (n % 2)); // H.264 has no odd sizes
