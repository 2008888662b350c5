// Keeps the overview current: asks whether anything changed, and only then fetches the changing parts.
const PERIOD = 1000;
const FULL_EVERY = 5;
let etag = "", paused = false, misses = 0, rounds = 0;

const state = document.getElementById("state");
const panels = document.getElementById("panels");
const announce = document.getElementById("announce");
const pause = document.getElementById("pause");

const spoken = () => [...state.querySelectorAll("[data-trading], [data-link]")]
  .map((axis) => axis.dataset.trading ?? axis.dataset.link).join(", ");
let said = spoken();

function say() {
  const now = spoken();
  if (now !== said) { announce.textContent = now; said = now; }
}

function away() {
  document.body.classList.add("away");
  const link = document.getElementById("link-state");
  if (link) {
    link.dataset.link = "DISCONNECTED";
    link.querySelector("strong").textContent = "DISCONNECTED";
    link.lastElementChild.textContent = "these are the last known values";
  }
  say();
}

async function changed() {
  const answer = await fetch("/api/status", { headers: etag ? { "If-None-Match": etag } : {}, signal: AbortSignal.timeout(3000) });
  if (answer.status === 401) { location.assign("/signin"); return false; }
  if (answer.status === 304) return false;
  if (!answer.ok) throw new Error(answer.status);
  etag = answer.headers.get("ETag") ?? "";
  return true;
}

async function refresh() {
  const answer = await fetch("/live", { signal: AbortSignal.timeout(3000) });
  if (!answer.ok) throw new Error(answer.status);
  const parts = new DOMParser().parseFromString(await answer.text(), "text/html");
  const open = panels.querySelector("details")?.open;
  state.replaceChildren(...parts.querySelector("[data-part=state]").childNodes);
  panels.replaceChildren(...parts.querySelector("[data-part=panels]").childNodes);
  if (open) panels.querySelector("details")?.setAttribute("open", "");
  document.body.classList.remove("away");
  say();
}

function countDown() {
  for (const node of document.querySelectorAll("[data-countdown]")) {
    const left = Math.max(0, Math.round((Date.parse(node.dataset.countdown) - Date.now()) / 1000));
    const minutes = String(Math.floor(left / 60)).padStart(2, "0");
    node.textContent = `${minutes}:${String(left % 60).padStart(2, "0")}`;
  }
}

async function tick() {
  if (!paused && !document.hidden) {
    try {
      const due = rounds++ % FULL_EVERY === 0;
      if ((await changed()) || due || misses) await refresh();
      misses = 0;
    } catch {
      if (++misses >= 2) away();
    }
  }
  setTimeout(tick, PERIOD);
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume updates" : "Pause updates";
});
setInterval(countDown, 500);
countDown();
setTimeout(tick, PERIOD);
