// Waits for news of the ledger and fetches the page that is open once more, as the server makes it.

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

const PATIENCE = 15; // seconds for an answer, beyond those that the server may wait for news
const PAGE = 60; // seconds for a page

// Says that what is shown may be old, or, with false, that it is not.
export function disconnected(yes) {
  const note = document.getElementById("connection");
  const text = yes ? "No connection to the server, so this is no longer up to date; trying again." : "";
  if (note.textContent !== text) note.textContent = text;
}

// Calls look(seq) whenever the ledger is past seq, and every `every` seconds besides, for what
// is in no ledger (a job's progress, a worker's sign of life). Never returns. look may throw:
// the server is away, and is asked again later.
export async function follow(seq, every, look) {
  let looked = Date.now();
  let took = 0;
  let away = false; // the server: what is shown may be old, so the first answer is not waited for
  for (;;) {
    // Once a second where the ledger is busy, less often where the line is slow.
    await pause(Math.max(1, Math.min(30, (5 * took) / 1000)));
    if (document.hidden) continue;
    try {
      const wait = away ? 0 : Math.min(25, every());
      const answer = await fetch(`/events?wait=${wait}&limit=0&after=${seq}`,
        { headers: { Accept: "application/json" }, signal: AbortSignal.timeout((wait + PATIENCE) * 1000) });
      if (answer.status === 401) location.reload(); // our key is none any more: the page says so
      if (!answer.ok) throw new Error(answer.statusText);
      const newest = (await answer.json()).seq;
      if (away || newest !== seq || Date.now() - looked >= every() * 1000) {
        const began = Date.now();
        await look(newest);
        seq = newest;
        looked = Date.now();
        took = looked - began;
      }
      away = false;
      disconnected(false);
    } catch (error) {
      if (error.name === "AbortError") continue; // another filter came meanwhile
      away = true;
      disconnected(true);
      await pause(5);
    }
  }
}

// The page at url as a document of its own; throws unless it came whole, and a TypeError where
// none came. stop: an AbortController that calls it off.
export async function page(url, stop = new AbortController()) {
  const { signal } = stop;
  const timer = setTimeout(() => stop.abort(new TypeError("no answer came")), PAGE * 1000);
  try {
    const answer = await fetch(url, { headers: { Accept: "text/html" }, signal });
    if (!answer.ok) throw new Error(answer.statusText);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  } finally {
    clearTimeout(timer);
  }
}

// What an element holds, but for the words of a time, which change by themselves.
function gist(element) {
  const copy = element.cloneNode(true);
  for (const time of copy.querySelectorAll("time, [data-since]")) {
    time.textContent = "";
    time.removeAttribute("title");
    delete time.dataset.local;
  }
  for (const details of copy.querySelectorAll("details")) details.open = false;
  return copy.innerHTML;
}

// Makes `old` hold what `fresh` holds, unless it is the same or somebody's focus is inside. What
// is open stays open. Tells whether it changed. `fresh` stays whole, and can be taken again.
export function take(old, fresh) {
  if (gist(old) === gist(fresh) || old.contains(document.activeElement)) return false;
  const open = [...old.querySelectorAll("details")].map((details) => details.open);
  old.className = fresh.className;
  old.replaceChildren(...fresh.cloneNode(true).childNodes);
  old.querySelectorAll("details").forEach((details, n) => { details.open = open[n] ?? false; });
  return true;
}
