// Zooming and moving the photo: wheel with Ctrl, pinch, double click, drag, the keys + - 0, and the arrow keys.

/**
 * Let an element be zoomed.
 *
 * @param stage the element with the events, which hides what is beyond it.
 * @param content what is in it, of the same size; it gets a CSS transform.
 * @param changed called with {scale, x, y}: a point p of the content is at scale * p + (x, y).
 * @returns a function that undoes the zoom.
 */
export function zoomable(stage, content, changed) {
  const MOST = 8,
    DRAG = 4, // pixels from which a press moves the photo, and is no click
    view = {scale: 1, x: 0, y: 0},
    pointers = new Map();
  let last = null,
    pressed = null, // where the first pointer went down
    dragged = false;

  function apply() {
    const {clientWidth: width, clientHeight: height} = content;
    view.x = Math.min(0, Math.max(width * (1 - view.scale), view.x));
    view.y = Math.min(0, Math.max(height * (1 - view.scale), view.y));
    content.style.transform = view.scale === 1 ? "" : `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    // Unless zoomed, one finger scrolls the page.
    stage.style.touchAction = view.scale === 1 ? "pan-x pan-y" : "none";
    changed(view);
  }
  /** Zoom by a factor; the point at client coordinates stays where it is. */
  function zoom(factor, clientX, clientY) {
    const {left, top} = stage.getBoundingClientRect(),
      [x, y] = [clientX - left, clientY - top];
    const scale = Math.min(MOST, Math.max(1, view.scale * factor)),
      change = scale / view.scale;
    Object.assign(view, {scale, x: x - (x - view.x) * change, y: y - (y - view.y) * change});
    apply();
  }
  const middle = () => {
    const points = [...pointers.values()],
      mean = (key) => points.reduce((sum, one) => sum + one[key], 0) / points.length;
    const [a, b] = points;
    return {
      x: mean("clientX"),
      y: mean("clientY"),
      apart: b ? Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) : 0,
    };
  };

  stage.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey && view.scale === 1) return; // the page scrolls
      event.preventDefault();
      zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX, event.clientY);
    },
    {passive: false},
  );
  stage.addEventListener("dblclick", (event) => zoom(view.scale > 1 ? 0 : 2.5, event.clientX, event.clientY));
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return; // menus swallow the release of the others
    if (!pointers.size) [pressed, dragged] = [event, false];
    pointers.set(event.pointerId, event);
    last = middle();
  });
  stage.addEventListener("click", (event) => dragged && event.detail && event.stopPropagation(), {capture: true});
  stage.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    pointers.set(event.pointerId, event);
    const now = middle();
    if (view.scale > 1 || pointers.size > 1) {
      dragged ||= Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) > DRAG;
      view.x += now.x - last.x;
      view.y += now.y - last.y;
      zoom(last.apart && now.apart ? now.apart / last.apart : 1, now.x, now.y);
    }
    last = now;
  });
  for (const kind of ["pointerup", "pointercancel", "pointerleave"])
    stage.addEventListener(kind, (event) => {
      pointers.delete(event.pointerId);
      last = pointers.size ? middle() : null;
    });
  stage.addEventListener("keydown", (event) => {
    const factor = {"+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 0}[event.key],
      {left, top, width, height} = stage.getBoundingClientRect();
    const [dx, dy] = {ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1]}[event.key] ?? [0, 0];
    if (event.altKey || event.ctrlKey || event.metaKey || (factor === undefined && (!(dx || dy) || view.scale === 1)))
      return;
    if (dx || dy) event.preventDefault(); // the page stays where it is
    view.x += (dx * width) / 8;
    view.y += (dy * height) / 8;
    zoom(factor ?? 1, left + width / 2, top + height / 2);
  });
  return () => {
    Object.assign(view, {scale: 1, x: 0, y: 0});
    apply();
  };
}
