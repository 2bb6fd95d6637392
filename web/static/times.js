// Keeps each <time> that says how long ago something was, and each [data-since] that says how
// long something goes on, true to the clock; shows the reader's own time in a title. The server
// writes the same words (web/words.py).

const UNITS = [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"]]; // below, seconds each, word

export function ago(time, now = Date.now()) {
  const seconds = (now - Date.parse(time)) / 1000;
  if (seconds < 10) return "just now";
  for (const [limit, unit, word] of UNITS) {
    if (seconds < limit) return `${Math.floor(seconds / unit)} ${word} ago`;
  }
  const days = Math.floor(seconds / 86400);
  if (days > 7) return time.slice(0, 10);
  return days === 1 ? "yesterday" : `${days} days ago`;
}

// A length of time as web/words.py writes it.
export function duration(seconds) {
  if (seconds < 60) return seconds < 10 ? `${seconds.toFixed(1)} s` : `${Math.round(seconds)} s`;
  const [minutes, second] = [Math.floor(Math.round(seconds) / 60), Math.round(seconds) % 60];
  const [hours, minute] = [Math.floor(minutes / 60), minutes % 60];
  const [days, hour] = [Math.floor(hours / 24), hours % 24];
  if (days) return `${days} d ${hour} h`;
  return hours ? `${hours} h ${minute} min` : `${minutes} min ${second} s`;
}

// All <time title> beneath root; one without a title shows an exact time already.
export function freshen(root = document) {
  for (const element of root.querySelectorAll("time[datetime][title]")) {
    const text = ago(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
    if (!element.dataset.local) {
      element.dataset.local = "yes";
      const local = new Date(element.dateTime).toLocaleString();
      element.title = `${local} (${element.title})`;
    }
  }
  for (const element of root.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, Date.now() - Date.parse(element.dataset.since)) / 1000;
    const text = duration(seconds < 10 ? Math.floor(seconds) : seconds).replace(".0 s", " s");
    if (element.textContent !== text) element.textContent = text;
  }
}

freshen();
setInterval(() => { if (!document.hidden) freshen(); }, 1000);
document.addEventListener("visibilitychange", () => { if (!document.hidden) freshen(); });
