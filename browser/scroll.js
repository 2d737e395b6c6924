/** Bring an element into view, smoothly, except for visitors who have asked for less motion. */
export function scrollTo(element, options = {}) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  element?.scrollIntoView({behavior: still ? "auto" : "smooth", ...options});
}
