"use strict";
document.documentElement.classList.add("js");
const all = (what) => Array.from(document.querySelectorAll(what));

// Findings by severity.
const boxes = all(".filter input");
const filter = () => {
  const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const found = all("#findings .findings > li");
  for (const finding of found) finding.hidden = !wanted.has(finding.dataset.severity);
  const none = document.querySelector(".none");
  if (none) none.hidden = found.some((finding) => !finding.hidden);
};
for (const box of boxes) box.addEventListener("change", filter);
filter();

// Folding.
const fold = {
  open: () => all("#changes details").forEach((one) => { one.open = true; }),
  diffs: () => all("#changes .diff, #changes .about").forEach((one) => { one.open = false; }),
  close: () => all("#changes details").forEach((one) => { one.open = false; }),
};
for (const button of all("[data-fold]")) button.addEventListener("click", fold[button.dataset.fold]);

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
  closed = all("details:not([open])");
  for (const one of closed) one.open = true;
  for (const finding of all("#findings .findings > li")) finding.hidden = false;
});
window.addEventListener("afterprint", () => {
  for (const one of closed) one.open = false;
  filter();
});
