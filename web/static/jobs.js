// The list of jobs: filters at once, and stays fresh in place. Works without it, too.
import { disconnected, follow, page, take } from "./news.js";
import { freshen } from "./times.js";

const list = document.getElementById("list");
const form = document.getElementById("filter");
const news = document.getElementById("news");
let asked = new AbortController();

// --- rows

const rows = (of) => [...of.querySelectorAll("#jobs tbody tr")];

// While the pointer or the focus is on the table no row comes, goes or moves: nobody should
// press "Kill" on a row that has just slid under the hand.
const handsOn = () => {
  const table = document.getElementById("jobs");
  return Boolean(table && (table.matches(":hover") || table.contains(document.activeElement)));
};

function takeCells(row, fresh) {
  let changed = false;
  [...fresh.cells].forEach((cell, n) => { changed = take(row.cells[n], cell) || changed; });
  if (row.dataset.state !== fresh.dataset.state) {
    row.dataset.state = fresh.dataset.state;
    row.classList.remove("changed");
    void row.offsetWidth; // the animation begins anew
    row.classList.add("changed");
    return true;
  }
  return false;
}

// Brings the rows of `fresh` into this page; tells what should be said of it.
function takeRows(fresh) {
  const said = [];
  const here = new Map(rows(document).map((row) => [row.id, row]));
  const wanted = rows(fresh);
  for (const row of wanted) {
    const old = here.get(row.id);
    if (old && takeCells(old, row)) said.push(`${nameOf(row)} is ${row.dataset.state}`);
  }
  const added = wanted.filter((row) => !here.has(row.id)).length;
  const moved = added || wanted.length !== here.size;
  const held = document.getElementById("held");
  if (moved && handsOn()) {
    held.hidden = !added;
    held.textContent = added === 1 ? "Show 1 new job" : `Show ${added} new jobs`;
    return said;
  }
  held.hidden = true;
  if (moved) {
    const body = document.querySelector("#jobs tbody");
    const kept = wanted.map((row) => here.get(row.id) ?? row);
    for (const row of here.values()) if (!kept.includes(row)) row.remove();
    kept.forEach((row, n) => { if (body.rows[n] !== row) body.insertBefore(row, body.rows[n] ?? null); });
    if (added) said.push(added === 1 ? "1 new job" : `${added} new jobs`);
  }
  return said;
}

const nameOf = (row) => row.querySelector("a bdi").textContent;

// --- the whole page, fetched anew

let latest = null; // the newest page, while its rows wait

function show(fresh) {
  latest = fresh;
  const freshList = fresh.getElementById("list");
  for (const count of fresh.querySelectorAll("[data-count]")) {
    const mine = document.querySelector(`[data-count="${count.dataset.count}"]`);
    if (mine && mine.textContent !== count.textContent) mine.textContent = count.textContent;
  }
  let said = [];
  if (document.getElementById("jobs") && fresh.getElementById("jobs")) {
    said = takeRows(fresh);
    const freshSaid = fresh.getElementById("said").textContent;
    const mine = document.getElementById("said");
    if (mine.textContent !== freshSaid) mine.textContent = freshSaid;
    takePager(freshList);
  } else if (!list.contains(document.activeElement)) {
    list.replaceChildren(...freshList.childNodes);
  }
  list.dataset.running = freshList.dataset.running;
  freshen(list);
  say(said);
}

function takePager(fresh) {
  const mine = list.querySelector(":scope > nav");
  const theirs = fresh.querySelector(":scope > nav");
  if (mine && theirs) take(mine, theirs);
  else if (theirs) list.append(theirs);
  else if (mine && !mine.contains(document.activeElement)) mine.remove();
}

function say(said) {
  if (!said.length) return;
  const few = said.slice(0, 3);
  if (said.length > few.length) few.push(`and ${said.length - few.length} more`);
  news.textContent = few.join(", ");
}

async function look() {
  const url = location.href;
  if (asked.signal.aborted) asked = new AbortController();
  const fresh = await page(url, asked);
  if (url === location.href) show(fresh);
}

list.addEventListener("click", (event) => {
  if (event.target.id !== "held" || !latest) return;
  say(takeRows(latest));
  freshen(list);
});
setInterval(() => {
  const held = document.getElementById("held");
  if (!held || held.hidden || !latest || handsOn() || held.matches(":hover, :focus")) return;
  say(takeRows(latest)); // the hand has left: what waited comes now
  freshen(list);
}, 1500);

// --- the filter: a change shows at once and stands in the address

function wanted() {
  const fields = [...new FormData(form)].filter(([, value]) => value !== "");
  const limit = new URLSearchParams(location.search).get("limit");
  if (limit) fields.push(["limit", limit]);
  const query = new URLSearchParams(fields).toString();
  return query ? `/jobs?${query}` : "/jobs";
}

async function filter(replacing) {
  const url = wanted();
  if (url === location.pathname + location.search) return;
  if (replacing) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  await load();
}

// Shows the page at the address that the browser has now, with another filter than before.
async function load() {
  asked.abort();
  asked = new AbortController();
  list.setAttribute("aria-busy", "true");
  try {
    const fresh = await page(location.href, asked);
    latest = fresh;
    list.replaceChildren(...fresh.getElementById("list").childNodes);
    document.getElementById("clear").hidden = fresh.getElementById("clear").hidden;
    freshen(list);
    const said = document.getElementById("said");
    news.textContent = said ? said.textContent : "No job matches";
  } catch (error) {
    if (error.name === "AbortError") return; // another filter came meanwhile
    if (error instanceof TypeError) disconnected(true); // the list of before is better than none
    else location.reload(); // it says itself what is wrong
  }
  list.removeAttribute("aria-busy");
}

// After "back" the fields say again what the address says.
async function restore() {
  const given = new URLSearchParams(location.search);
  for (const box of form.elements.state) box.checked = given.getAll("state").includes(box.value);
  for (const name of ["q", "model", "from", "to"]) form.elements[name].value = given.get(name) ?? "";
  await load();
}

if (form) {
  let typing = null;
  let typed = false; // one step back undoes all that was typed in one go
  form.addEventListener("change", (event) => {
    if (event.target.name === "q") return;
    typed = false;
    filter(false);
  });
  form.elements.q.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { filter(typed); typed = true; }, 300);
  });
  form.elements.q.addEventListener("blur", () => { typed = false; });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    filter(false);
  });
  window.addEventListener("popstate", restore);
  document.getElementById("show").hidden = true;
}

follow(Number(list.dataset.seq), () => (Number(list.dataset.running) ? 5 : 25), look);
