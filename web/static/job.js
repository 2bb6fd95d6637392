// The page of one job: asks the server every second what is new, and shows it in place.

import { lasting } from "./lengths.js";
import { Log } from "./log.js";
import "./pictures.js";
import { freshen } from "./times.js";

const EVERY = 1000, HIDDEN = 5000; // milliseconds between two questions
const PATIENCE = 15_000; // milliseconds for an answer

const page = document.getElementById("job");
const address = `/jobs/${page.dataset.id}`;
const byId = (id) => document.getElementById(id);

let told = page.querySelector(".badge").textContent; // the state that was announced last

function announce(text) {
  put(byId("news"), text);
}

// Texts that change by themselves are not told again and again to a screen reader.
function put(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}

// --- what polling found

async function show(state) {
  const waits = Boolean(state.waiting) && !state.kill_requested; // it ends: nobody asks why it waits
  if (String(state.seq) !== page.dataset.seq || waits !== Boolean(byId("waiting"))) await renew();
  put(byId("remark"), state.remark ?? "");
  if (waits && byId("waiting")) {
    const place = (state.place + 1).toLocaleString("en");
    const words = state.place ? `Place ${place} in the queue.` : "Next in the queue.";
    put(byId("place"), state.status === "QUEUED" ? words : "");
    put(byId("why"), state.waiting);
  }
  const progress = byId("progress");
  if (progress) {
    progress.hidden = state.progress === null;
    progress.querySelector("progress").value = state.progress ?? 0;
    put(byId("percent"), `${state.progress ?? 0} %`);
  }
  log.update({ size: state.log_size, attempt: String(state.attempt), final: state.final });
}

// Takes the parts of the page as the server writes them now; the log stays where it is.
async function renew() {
  const signal = AbortSignal.timeout(PATIENCE);
  const answer = await fetch(address, { headers: { Accept: "text/html" }, signal, cache: "no-store" });
  if (!answer.ok) throw new TypeError(`status ${answer.status}`);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const now = fresh.getElementById("job");
  const focus = document.activeElement;
  for (const part of page.querySelectorAll("[data-part]")) {
    const other = now.querySelector(`[data-part=${part.dataset.part}]`);
    if (!other || other.innerHTML === part.innerHTML) continue;
    for (const details of part.querySelectorAll("details[id][open]")) {
      other.querySelector(`#${details.id}`)?.setAttribute("open", "");
    }
    part.replaceChildren(...other.childNodes);
    part.className = other.className;
  }
  if (focus && !focus.isConnected) refocus(focus);
  const before = told;
  for (const name of ["state", "final", "seq", "attempt"]) page.dataset[name] = now.dataset[name];
  document.title = fresh.title;
  freshen(page);
  tick();
  told = page.querySelector(".badge").textContent;
  if (told !== before) announce(page.querySelector(".headline").textContent.trim());
}

// The part with the focus was replaced: its twin gets it, or the page's beginning.
function refocus(gone) {
  const twin = [...page.querySelectorAll(gone.localName)].find(
    (element) => element.textContent === gone.textContent && element.id === gone.id,
  );
  (twin ?? byId("main")).focus({ preventScroll: true });
}

// --- asking

function pause(milliseconds) {
  return new Promise((done) => {
    const end = () => {
      document.removeEventListener("visibilitychange", seen);
      clearTimeout(timer);
      done();
    };
    const seen = () => { if (!document.hidden) end(); };
    const timer = setTimeout(end, milliseconds);
    document.addEventListener("visibilitychange", seen);
  });
}

async function follow() {
  let tag = "";
  // Not what the page says: it may be newer than the state, which alone tells the log of the end.
  let final = page.dataset.final === "yes";
  while (!final) {
    await pause(document.hidden ? HIDDEN : EVERY);
    try {
      const headers = { Accept: "application/json" };
      if (tag) headers["If-None-Match"] = tag;
      const signal = AbortSignal.timeout(PATIENCE);
      const answer = await fetch(`${address}/state`, { headers, signal, cache: "no-store" });
      if (answer.status === 304) log.catchUp(); // what could not be read of it is tried again
      else {
        if (!answer.ok) throw new TypeError(`status ${answer.status}`);
        const state = await answer.json();
        await show(state);
        final = state.final;
        tag = answer.headers.get("ETag") ?? "";
      }
      put(byId("connection"), "");
    } catch {
      tag = "";
      put(byId("connection"), "No connection to the server; trying again.");
    }
  }
}

// --- what goes on without the server

function tick() {
  const now = Date.now(); // performance.now() stands still while the computer sleeps
  for (const element of page.querySelectorAll("[data-seconds]")) {
    element.began ??= now - Number(element.dataset.seconds) * 1000;
    put(element, lasting((now - element.began) / 1000));
  }
}

// Kill asks once more; without this script the button alone does it. The answer is taken from the
// dialog's form: its close event comes later, when the dialog may already be open again.
page.addEventListener("submit", (event) => {
  const sure = byId("sure"), kill = byId("kill");
  if (!sure || !kill) return;
  if (event.target === kill) {
    event.preventDefault();
    sure.showModal();
  } else if (sure.contains(event.target) && event.submitter?.value === "end") {
    kill.submit();
    const button = kill.querySelector("button"); // until the server's page comes
    button.disabled = true;
    button.textContent = "Ending…";
  }
});

// A preview opens below its file's name; with a modifier, or without this script, on its page.
page.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-preview]");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const box = byId(link.dataset.preview);
  const open = box.hidden;
  link.setAttribute("aria-expanded", String(open));
  box.hidden = !open;
  if (!open || box.childNodes.length) return;
  box.textContent = "Loading ...";
  try {
    const answer = await fetch(`${link.getAttribute("href")}?part=1`, { headers: { Accept: "text/html" } });
    if (!answer.ok) throw new TypeError(`status ${answer.status}`);
    box.innerHTML = await answer.text(); // the server's own, in which all that is foreign is escaped
  } catch {
    box.textContent = "It could not be loaded; try again.";
    box.hidden = true;
    location.assign(link.href);
  }
});

const log = new Log(page, `${address}/log`, announce);
tick();
setInterval(tick, 1000);
log.begin();
await follow();
