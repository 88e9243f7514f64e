"use strict";
document.documentElement.classList.add("js");
const all = (what) => Array.from(document.querySelectorAll(what));

// VMs by answer and by what was typed.
const boxes = all(".filter input");
const find = document.getElementById("find");
const rows = all(".vms tbody tr");
const filter = () => {
  const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
  const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    row.hidden = !wanted.has(row.dataset.state) || !words.every((word) => row.dataset.words.includes(word));
  }
  document.querySelector(".none").hidden = rows.some((row) => !row.hidden);
};
for (const box of boxes) box.addEventListener("change", filter);
find.addEventListener("input", filter);

// Paper cannot be filtered.
window.addEventListener("beforeprint", () => { for (const row of rows) row.hidden = false; });
window.addEventListener("afterprint", filter);
filter();
