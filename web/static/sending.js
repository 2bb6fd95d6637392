// One submission on its way, as #upload-progress shows it: zipping, uploading, being checked,
// waiting for another try. It keeps the zip and the key, so that a further press on Submit with
// everything unchanged sends the same thing under the same key, and no second job comes of it.

import { Speed, left, many, sentence } from "./figures.js";
import { size as bytes } from "./lengths.js";
import { Refused, newKey, send } from "./upload.js";
import { Unreadable, zip } from "./zipping.js";

const EVERY = 200; // milliseconds between two changes of the figures
const LOOKED_AT = 100; // files that are looked at again after a loss
const at = (id) => document.getElementById(id);

export class Sending {
  busy = false;
  #abort = null;
  #arrived = false; // all of the body is at the server
  #key = null; // {key, job}: the last submission that was not refused
  #zipped = { input: null, blob: null };
  #wake = () => {};
  #leave = (event) => event.preventDefault();

  constructor() {
    at("cancel").addEventListener("click", () => this.#abort?.abort(this.#cancelled()));
    at("again").addEventListener("click", () => this.#wake());
    window.addEventListener("online", () => this.#wake());
  }

  // The server's answer to ``job``: {model, name, input, url}. Rejects as upload.send does.
  async run(job, onlyCheck) {
    this.#abort = new AbortController();
    this.#arrived = false;
    this.#begin();
    try {
      const body = job.url ? null : await this.#body(job.input);
      const request = onlyCheck ? checking(job, body) : submitting(job, body);
      if (!onlyCheck) request.key = this.#keyFor(job);
      return await this.#send(request, job.input); // the key stays: pressed again, it is the same job
    } catch (error) {
      if (error instanceof Refused && !error.later) this.#key = null;
      throw error;
    } finally {
      this.#end();
    }
  }

  reset() {
    this.#key = null;
    this.#end();
  }

  #keyFor(job) {
    const last = this.#key?.job;
    const same = last && ["model", "name", "input", "url"].every((part) => last[part] === job[part]);
    if (!same) this.#key = { key: newKey(), job };
    return this.#key.key;
  }

  async #body(input) {
    if (input.zip) return input.zip;
    if (this.#zipped.input !== input) {
      const total = input.items.reduce((sum, { file }) => sum + file.size, 0);
      const show = this.#figures(`Zipping ${many(input.items.length, "file")}…`);
      let done = 0;
      const tell = (more) => show((done += more), total);
      this.#zipped = { input, blob: await zip(input.items, tell, this.#abort.signal) };
    }
    return this.#zipped.blob;
  }

  #send(request, input) {
    let show = this.#figures("Uploading…");
    const tell = {
      progress: (sent, total) => show(sent, total),
      arrived: () => {
        this.#arrived = true;
        this.#phase("Checking the input on the server…");
        at("bar").removeAttribute("value");
        this.#words("", "", "");
      },
      waiting: async (why, seconds, signal) => {
        await readable(input);
        await this.#wait(why, seconds, signal);
        show = this.#figures("Uploading again…");
      },
    };
    return send(request, tell, this.#abort.signal);
  }

  // Resolves after ``seconds``, at a press on "Try again now", or when the network is back.
  #wait(why, seconds, signal) {
    signal.throwIfAborted();
    this.#phase(`${sentence(why)} Nothing is lost: it is tried again by itself.`);
    this.#words("", "", "");
    at("again").hidden = false;
    const until = Date.now() + seconds * 1000;
    return new Promise((done) => {
      const show = () => {
        const rest = Math.ceil((until - Date.now()) / 1000);
        if (rest <= 0) this.#wake();
        else at("done").textContent = `Next try in ${rest} s`;
      };
      const clock = setInterval(show, 250);
      this.#wake = () => {
        clearInterval(clock);
        signal.removeEventListener("abort", this.#wake);
        this.#wake = () => {};
        at("again").hidden = true;
        done();
      };
      signal.addEventListener("abort", this.#wake);
      show();
    });
  }

  // A phase with a bar: what it returns shows how much of how much is done.
  #figures(phase) {
    const speed = new Speed();
    let shown = -EVERY;
    this.#phase(phase);
    at("bar").value = 0;
    this.#words("", "", "");
    return (done, total) => {
      const now = performance.now();
      speed.note(done, now / 1000);
      if (now - shown < EVERY && done < total) return;
      shown = now;
      at("bar").value = total ? done / total : 1;
      const rest = speed.value ? left((total - done) / speed.value) : "";
      this.#words(`${bytes(done)} of ${bytes(total)}`, speed.value ? `${bytes(Math.round(speed.value))}/s` : "", rest);
    };
  }

  #phase(text) {
    if (at("phase").textContent !== text) at("phase").textContent = text;
  }

  #words(done, speed, rest) {
    for (const [id, text] of [["done", done], ["speed", speed], ["left", rest]]) at(id).textContent = text;
  }

  #cancelled() {
    const said = this.#arrived
      ? "All of it was at the server already, so the job may be queued all the same: look under Jobs. Pressing Submit again, with nothing changed, makes no second one."
      : "Nothing was queued, and all fields are as you left them.";
    return new DOMException(said, "AbortError");
  }

  #begin() {
    this.busy = true;
    at("fields").disabled = true;
    at("upload-progress").hidden = false;
    at("cancel").focus({ preventScroll: true });
    at("upload-progress").scrollIntoView({ block: "nearest" });
    window.addEventListener("beforeunload", this.#leave);
  }

  #end() {
    this.busy = false;
    this.#abort = null;
    at("again").hidden = true;
    at("fields").disabled = false;
    at("upload-progress").hidden = true;
    this.#phase("");
    window.removeEventListener("beforeunload", this.#leave);
  }
}

// A file that changed on the disk since it was chosen cannot be sent, and to the page that
// looks like a lost connection. Rejects with Unreadable, naming the first such file.
async function readable(input) {
  const files = input?.zip ? [{ path: input.zip.name, file: input.zip }] : input?.items ?? [];
  for (const { path, file } of files.slice(0, LOOKED_AT)) {
    await file.slice(0, 1).arrayBuffer().catch(() => {
      throw new Unreadable(`${path} was changed, moved or taken away since it was chosen. Choose it again.`);
    });
  }
}

const asZip = (url, body) => ({ url, body, type: "application/zip" });

function checking({ model }, body) {
  return asZip(`/models/${encodeURIComponent(model)}/validate`, body);
}

function submitting({ model, name, url }, body) {
  const fields = new URLSearchParams({ job_name: name, model });
  if (!url) return asZip(`/jobs?${fields}`, body);
  fields.set("zip_url", url);
  return { url: "/jobs", body: fields.toString(), type: "application/x-www-form-urlencoded" };
}
