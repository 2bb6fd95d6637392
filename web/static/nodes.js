// The nodes: stays fresh in place, offers the reader's own time. Works without it, too.
import { follow, page, take } from "./news.js";
import { freshen } from "./times.js";

const nodes = document.getElementById("nodes");
const day = document.getElementById("day");
const news = document.getElementById("news");

// --- the timeline's hours: UTC as they come, or the reader's own

let local = false;

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

function hours() {
  const zone = document.getElementById("zone");
  if (!zone || new Date().getTimezoneOffset() === 0) return; // nothing to choose
  for (const tick of day.querySelectorAll("[data-time]")) {
    tick.textContent = local ? clock.format(new Date(tick.dataset.time)) : tick.dataset.time.slice(11, 16);
  }
  zone.textContent = local ? "your own time" : "UTC";
  let button = document.getElementById("zone-button");
  if (!button) {
    button = document.createElement("button");
    button.id = "zone-button";
    button.className = "plain small";
    button.addEventListener("click", () => { local = !local; hours(); });
    document.getElementById("told").append(" ", button);
  }
  button.textContent = local ? "Show UTC" : "Show my own time";
}

// --- fetched anew

function takeNodes(fresh) {
  const said = [];
  const here = new Map([...nodes.children].map((card) => [card.id, card]));
  for (const card of fresh.getElementById("nodes").children) {
    const old = here.get(card.id);
    here.delete(card.id);
    if (!old) {
      nodes.append(card.cloneNode(true));
      said.push(`new: ${card.querySelector("h2").textContent}`);
      continue;
    }
    const changed = old.dataset.state !== card.dataset.state;
    if (changed) said.push(`${old.querySelector("h2").textContent} is ${card.dataset.word}`);
    old.dataset.state = card.dataset.state;
    take(old, card);
  }
  for (const gone of here.values()) gone.remove();
  return said;
}

function takeDay(fresh) {
  const plot = day.querySelector(".plot");
  const busy = day.contains(document.activeElement) || day.matches(":hover");
  if (busy || day.querySelector("details[open]")) return; // somebody is reading it
  const left = plot ? plot.scrollLeft : null;
  const wasEnd = plot && left + plot.clientWidth >= plot.scrollWidth - 4;
  day.replaceChildren(...fresh.getElementById("day").childNodes);
  const now = day.querySelector(".plot");
  if (now) now.scrollLeft = left === null || wasEnd ? now.scrollWidth : left;
  hours();
}

async function look() {
  const fresh = await page(location.href);
  const said = takeNodes(fresh);
  take(document.getElementById("findings"), fresh.getElementById("findings"));
  takeDay(fresh);
  freshen();
  if (said.length) news.textContent = said.slice(0, 3).join(", ");
}

const plot = day.querySelector(".plot");
if (plot) plot.scrollLeft = plot.scrollWidth; // what is newest is at the right
hours();
follow(Number(nodes.dataset.seq), () => 10, look);
