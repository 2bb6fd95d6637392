// Sends one request with a body and tells how far it is. What a lost connection or a server
// that restarts takes away is sent again by itself, a few times; the Idempotency-Key, which
// stays the same, sees to it that this never makes a second job.

const PAUSES = [2, 5, 10, 20, 40]; // seconds before each further try
const STILL = 120; // seconds in which not one byte left: the line is dead, whatever TCP hopes
const ANSWER = 1800; // seconds for the check of a large input, once all of it is there
const AGAIN = new Set([0, 408, 409, 429, 502, 503, 504]); // 409: the first try is still under way

// The server's answer was no: ``problem`` is its problem document, or what stands for it.
// ``later``: it may be another one later, and what was sent may have been taken all the same.
export class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail);
    Object.assign(this, { status, problem, later: AGAIN.has(status) });
  }
}

// No answer came, in all tries.
export class Lost extends Error {}

// crypto.randomUUID is there on https and localhost alone; our servers are often neither.
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const b = crypto.getRandomValues(new Uint8Array(16));
  b[6] = (b[6] & 0x0f) | 0x40;
  b[8] = (b[8] & 0x3f) | 0x80;
  const hex = [...b].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

// The answer's JSON. ``request``: {url, type, body, key}. ``tell``: {progress(sent, total),
// arrived(), waiting(why, seconds) -> resolves early when somebody wants it now}. Rejects with
// Refused, Lost, or the signal's reason.
export async function send(request, tell, signal) {
  for (let tries = 0; ; tries++) {
    const { status, headers, text } = await once(request, tell, signal);
    if (status >= 200 && status < 300) return answerOf(status, text);
    const problem = problemOf(status, text);
    if (!AGAIN.has(status) || (status === 409 && !request.key)) throw new Refused(status, problem);
    if (tries === PAUSES.length) {
      if (status) throw new Refused(status, problem);
      throw new Lost("The connection was lost.");
    }
    const asked = Number(headers?.("Retry-After")) || 0;
    const seconds = Math.min(60, Math.max(asked, PAUSES[tries] * (0.75 + Math.random() / 2)));
    await tell.waiting(status ? problem.detail : "The connection was lost.", seconds, signal);
    signal.throwIfAborted();
  }
}

function once({ url, type, body, key }, tell, signal) {
  return new Promise((done, failed) => {
    const xhr = new XMLHttpRequest();
    let timer = null;
    const within = (seconds) => {
      clearTimeout(timer);
      timer = setTimeout(() => xhr.abort(), seconds * 1000);
    };
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      if (signal.aborted) failed(signal.reason);
      else done({ status: xhr.status, headers: (name) => xhr.getResponseHeader(name), text: xhr.responseText });
    };
    const stop = () => xhr.abort();
    signal.addEventListener("abort", stop);
    xhr.upload.addEventListener("progress", (event) => {
      within(STILL);
      tell.progress(event.loaded, event.total);
    });
    xhr.upload.addEventListener("load", () => {
      within(ANSWER);
      tell.arrived();
    });
    xhr.addEventListener("loadend", end);
    xhr.open("POST", url);
    xhr.setRequestHeader("Accept", "application/json");
    xhr.setRequestHeader("Content-Type", type);
    if (key) xhr.setRequestHeader("Idempotency-Key", key);
    within(STILL);
    xhr.send(body);
  });
}

function answerOf(status, text) {
  try {
    return JSON.parse(text);
  } catch {
    const detail = "What came back is no answer of this server: a proxy or a sign-in page may stand between. " +
      "Look under Jobs whether the job is there.";
    throw new Refused(status, { detail, findings: [] });
  }
}

// A proxy's or the server's own early refusal is no problem document; it gets our words.
function problemOf(status, text) {
  const words = {
    413: "The input is larger than the server takes now. Leave out what the model does not need, " +
      "or ask the keeper of the server: its disk may be nearly full.",
    502: "The server does not answer (502); it may be restarting.",
    503: "The server is not ready (503); it may be restarting.",
    504: "The server took too long to answer (504).",
    507: "The server's disk is full. Nothing was queued; try again later, or tell its keeper.",
  };
  try {
    const problem = JSON.parse(text);
    if (typeof problem.detail === "string") return { findings: [], ...problem };
  } catch {
    // not JSON: what follows
  }
  return { detail: words[status] ?? `The server answered with an error (${status}).`, findings: [] };
}
