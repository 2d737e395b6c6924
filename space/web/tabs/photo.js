// The photo's result: pointing at a face highlights its card and the other way round; "Why this age?" asks the server.
// Runs as `js_on_load` of a gr.HTML, which gives `element` and `trigger`.
function mark(number) {
  for (const one of element.querySelectorAll("[data-n]")) one.classList.toggle("on", one.dataset.n === number);
}
const numberOf = (event) => event.target.closest?.("[data-n]")?.dataset.n;
element.addEventListener("pointerover", (event) => mark(numberOf(event)));
element.addEventListener("pointerleave", () => mark());
element.addEventListener("focusin", (event) => mark(numberOf(event)));
element.addEventListener("click", (event) => {
  const why = event.target.closest(".why");
  if (why) return trigger("why", {number: Number(why.dataset.number)});
  const number = event.target.closest("rect") && numberOf(event);
  if (number) element.querySelector(`li[data-n="${number}"]`)?.scrollIntoView({block: "nearest", behavior: "smooth"});
});
