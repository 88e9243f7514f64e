
// What follows is of the watched page only: it asks for its parts again, and keeps what the reader has chosen.
const EVERY_MS = 2000;
const fresh = document.getElementById("fresh");
const known = {};

const keep = (id, html) => {
  if (known[id] === html) return;
  const place = document.getElementById(`live-${id}`);
  const open = Array.from(place.querySelectorAll("details")).map((one) => one.open);
  const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") || document.activeElement.dataset.sort : null;
  const head = place.querySelector("[aria-sort=ascending], [aria-sort=descending]");
  const order = head && [head.querySelector("button").dataset.sort, head.getAttribute("aria-sort")];
  const chart = place.querySelector(".chart");
  const scrolled = chart && chart.scrollTop;
  known[id] = html;
  place.innerHTML = html;
  place.querySelectorAll("details").forEach((one, number) => { one.open = open[number] || false; });
  if (place.querySelector(".chart") && scrolled) place.querySelector(".chart").scrollTop = scrolled;
  if (id === "rows") {
    listen();
    if (order) {
      place.querySelector(`[data-sort="${order[0]}"]`).parentElement.setAttribute("aria-sort", order[1]);
      sort(order[0], order[1] === "descending");
    }
    filter();
  }
  if (focused !== null) {
    const again = Array.from(place.querySelectorAll("a, button")).find((one) => (one.getAttribute("href") || one.dataset.sort) === focused);
    if (again) again.focus({ preventScroll: true });
  }
};

const ask = async () => {
  if (!document.hidden) {
    try {
      const answer = await fetch(`${location.pathname}/now`, { cache: "no-store" });
      if (!answer.ok) throw new Error(`${answer.status}`);
      const parts = await answer.json();
      for (const [id, html] of Object.entries(parts)) keep(id, html);
      fresh.textContent = `as of ${new Date().toLocaleTimeString()}`;
      fresh.className = "";
    } catch (error) {
      fresh.textContent = "the dashboard does not answer: what is shown is old";
      fresh.className = "stale";
    }
  }
  setTimeout(ask, EVERY_MS);
};
setTimeout(ask, EVERY_MS);

// Rows by key.
document.addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape" && document.getElementById("up")) document.getElementById("up").click();
  if (event.key !== "j" && event.key !== "k") return;
  const links = all(".vms tbody tr:not([hidden]) th a");
  const at = links.indexOf(document.activeElement) + (event.key === "j" ? 1 : -1);
  if (links.length) links[Math.max(0, Math.min(at, links.length - 1))].focus();
});

// Control, where it is allowed.
for (const button of all(".control button"))
  button.addEventListener("click", async () => {
    if (button.dataset.ask && !window.confirm(button.dataset.ask)) return;
    const place = button.closest(".control");
    const said = place.querySelector(".said");
    const vms = place.dataset.vm ? [place.dataset.vm] : [];
    const answer = await fetch(`${place.dataset.where}/do/${button.dataset.do}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ vms }),
    });
    said.textContent = (await answer.json()).said;
  });
