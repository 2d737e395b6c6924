// The visitor's cameras, and why one can't be opened.
import {t} from "./text.js";

const MISSING = ["NotFoundError", "OverconstrainedError", "DevicesNotFoundError"];

/** A stream of one camera, by its id; without an id, or if that one is gone, of the one that faces the visitor. */
export async function openCamera(id) {
  if (!window.isSecureContext || !navigator.mediaDevices) throw new Error("no camera");
  const wish = {width: {ideal: 640}, height: {ideal: 480}, frameRate: {ideal: 30}};
  const choice = id ? {deviceId: {exact: id}} : {facingMode: "user"};
  try {
    return await navigator.mediaDevices.getUserMedia({video: {...wish, ...choice}, audio: false});
  } catch (error) {
    if (!id || !MISSING.includes(error?.name)) throw error;
    return openCamera();
  }
}

/** Fill a menu with the cameras, and show it if there is a choice. */
export async function listCameras(menu, stream) {
  const found = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "videoinput");
  menu.hidden = found.length < 2;
  const current = stream.getVideoTracks()[0]?.getSettings().deviceId;
  menu.replaceChildren(
    ...found.map(
      (device, number) =>
        new Option(device.label || t(`Camera ${number + 1}`), device.deviceId, false, device.deviceId === current),
    ),
  );
}

/** Whether the page is in another site's frame that may not even ask for the camera. */
export function isBlockedByFrame(error) {
  const allowed = document.featurePolicy?.allowsFeature("camera"); // not in all browsers
  return window.top !== window && !allowed && ["NotAllowedError", "SecurityError"].includes(error?.name);
}

/** A message for `openCamera`'s error; without one, for a page that may not use cameras. */
export function explain(error) {
  if (!window.isSecureContext)
    return t(
      "Browsers allow camera access only over HTTPS or on localhost. This page uses HTTP. Open it over HTTPS, or on the machine that runs the app.",
    );
  if (MISSING.includes(error?.name)) return t("No camera found. Connect one, or use the Photo tab.");
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError":
      return t(
        isBlockedByFrame(error)
          ? "This page is embedded in a page that doesn't allow camera access. Open it in a new tab."
          : "The browser blocked camera access. Allow it with the camera icon in the address bar, then start again.",
      );
    case "NotReadableError":
    case "AbortError":
    case "TrackStartError":
      return t("The camera can't be opened: another application may be using it.");
  }
  return navigator.mediaDevices
    ? t("The camera can't be opened: {reason}", {reason: error?.message || error})
    : t("This browser doesn't support camera access. Use the Photo tab.");
}
