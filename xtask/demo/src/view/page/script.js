"use strict";
// Without this script everything can still be read: details are then simply open.
const rows = [...document.querySelectorAll("button.line")];
const tip = document.getElementById("tip");
const detailOf = (row) => document.getElementById(row.getAttribute("aria-controls"));
const open = (row, want) => {
  row.setAttribute("aria-expanded", String(want));
  detailOf(row).hidden = !want;
};
for (const row of rows) {
  open(row, false);
  row.addEventListener("click", () => {
    tip.hidden = true;
    open(row, row.getAttribute("aria-expanded") !== "true");
  });
  row.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "mouse" || row.getAttribute("aria-expanded") === "true") return;
    if (tip.of !== row) {
      tip.of = row;
      const title = document.createElement("strong");
      title.textContent = row.querySelector(".name").textContent;
      const card = detailOf(row).querySelector(".card").cloneNode(true);
      for (const node of card.querySelectorAll("[id]")) node.removeAttribute("id");
      tip.replaceChildren(title, card);
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const right = event.clientX + 18 + box.width > innerWidth;
    const below = event.clientY + 18 + box.height <= innerHeight;
    tip.style.left = Math.max(8, right ? event.clientX - box.width - 14 : event.clientX + 18) + "px";
    tip.style.top = (below ? event.clientY + 18 : Math.max(8, innerHeight - box.height - 8)) + "px";
  });
  row.addEventListener("pointerleave", () => { tip.hidden = true; });
}
document.addEventListener("keydown", (event) => {
  const shown = rows.filter((row) => row.offsetParent !== null);
  const at = shown.indexOf(document.activeElement);
  const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 };
  if (event.key in steps && !event.ctrlKey && !event.metaKey && !event.altKey) {
    if (at < 0 && event.key.startsWith("Arrow")) return;
    const next = shown[at < 0 ? 0 : Math.min(Math.max(at + steps[event.key], 0), shown.length - 1)];
    if (next) { next.focus(); event.preventDefault(); }
  } else if (at >= 0 && event.key === "ArrowRight") { open(shown[at], true); event.preventDefault(); }
  else if (at >= 0 && event.key === "ArrowLeft") { open(shown[at], false); event.preventDefault(); }
  else if (event.key === "Escape") { tip.hidden = true; for (const row of rows) open(row, false); }
});
for (const box of document.querySelectorAll("input.errors")) {
  box.addEventListener("change", () => box.closest("section").classList.toggle("only-errors", box.checked));
}
for (const link of document.querySelectorAll("a[href^='#r']")) {
  link.addEventListener("click", (event) => {
    const row = document.querySelector(link.getAttribute("href"));
    if (!row) return;
    event.preventDefault();
    row.scrollIntoView({ block: "center" });
    row.focus();
  });
}
