// Keeps an open page fresh. All pages work without it (they then reload themselves).
"use strict";

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const json = { headers: { Accept: "application/json" } };

// A job's page: adds to the log as it grows, and loads anew when the state changes.
async function followJob(page) {
  const log = document.getElementById("log");
  const url = "/jobs/" + page.dataset.id;
  const decoder = new TextDecoder();
  let offset = Number(page.dataset.logEnd);
  for (;;) {
    await pause(document.hidden ? 5 : 1);
    try {
      const piece = await fetch(url + "/log?offset=" + offset);
      if (!piece.ok) continue;
      if (piece.headers.get("X-Log-Attempt") !== page.dataset.attempt) return location.reload();
      const bytes = await piece.arrayBuffer();
      offset += bytes.byteLength;
      const text = decoder.decode(bytes, { stream: true });
      if (text) {
        const atEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 30;
        log.append(text);
        document.getElementById("no-log")?.remove();
        if (atEnd) log.scrollTop = log.scrollHeight;
      }
      const job = await (await fetch(url, json)).json();
      if (job.status !== page.dataset.state) return location.reload();
      document.getElementById("remark").textContent = job.worker_remark;
      const bar = page.querySelector("progress");
      if (bar && job.progress !== null) bar.value = job.progress;
    } catch {
      await pause(5); // the server is away; try again
    }
  }
}

// The list: loads anew when the ledger has news, but never under somebody's hands.
async function followList(table) {
  const seq = table.dataset.seq;
  for (;;) {
    await pause(2);
    if (document.hidden) continue;
    try {
      const news = await (await fetch("/events?wait=25&limit=0&after=" + seq, json)).json();
      const busy = document.activeElement && document.activeElement !== document.body;
      if (String(news.seq) !== seq && !busy) return location.reload();
    } catch {
      await pause(5);
    }
  }
}

const job = document.getElementById("job");
const list = document.getElementById("jobs");
if (job) document.getElementById("log").scrollTop = 1e9;
if (job && job.dataset.final === "no") followJob(job);
if (list) followList(list);
