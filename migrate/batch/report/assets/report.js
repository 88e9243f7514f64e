"use strict";
document.documentElement.classList.add("js");
const all = (what) => Array.from(document.querySelectorAll(what));
const field = document.getElementById("filter");
const boxes = all("form.tools input[type=checkbox]");

// Which rows are shown: those whose state is not switched off, that hold every word of the filter.
const filter = () => {
  if (!field) return;
  const off = new Set(boxes.filter((box) => !box.checked).map((box) => box.value));
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rows = all(".vms tbody tr");
  for (const row of rows) row.hidden = off.has(row.dataset.state) || !words.every((word) => row.dataset.text.includes(word));
  document.getElementById("shown").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} are shown.`;
};
if (field) {
  field.addEventListener("input", filter);
  field.form.addEventListener("submit", (event) => event.preventDefault());
}
for (const box of boxes) box.addEventListener("change", filter);
document.addEventListener("keydown", (event) => {
  if (field && event.key === "/" && document.activeElement.tagName !== "INPUT") {
    event.preventDefault();
    field.focus();
  }
});
filter();

// Sorting: a second press turns it round.
const sort = (column, down) => {
  const body = document.querySelector(".vms tbody");
  const rows = Array.from(body.rows).sort((one, other) => (one.dataset[`s${column}`] < other.dataset[`s${column}`] ? -1 : 1));
  body.append(...(down ? rows.reverse() : rows));
};
const listen = () => {
  for (const button of all("[data-sort]"))
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of all("[aria-sort]")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      sort(button.dataset.sort, down);
    });
};
listen();

for (const button of all("[data-fold]"))
  button.addEventListener("click", () => all("details.vm").forEach((one) => { one.open = button.dataset.fold === "open"; }));

// A link to what is folded opens it.
const reveal = () => {
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (target) target.scrollIntoView();
};
window.addEventListener("hashchange", reveal);
reveal();

// Paper cannot be unfolded, nor filtered.
let closed = [];
window.addEventListener("beforeprint", () => {
  closed = document.body.classList.contains("long") ? [] : all("details:not([open])");
  for (const one of closed) one.open = true;
  for (const row of all(".vms tbody tr")) row.hidden = false;
});
window.addEventListener("afterprint", () => {
  for (const one of closed) one.open = false;
  filter();
});
