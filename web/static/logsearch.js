// Search in a log: the server looks for the lines, also in a log of 500 MB; here one goes from
// one to the next.

import { size } from "./lengths.js";

const ENOUGH = 1000; // lines to know of ahead; more are looked for when one goes on

export class LogSearch {
  // "view": show(query, offset of the line or null), size() of the log.
  constructor(form, address, view) {
    this.form = form;
    this.address = `${address}/search`;
    this.view = view;
    this.forget("");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.enter(1);
    });
    form.previous.addEventListener("click", () => this.enter(-1));
    form.q.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey) {
        event.preventDefault();
        this.enter(-1);
      } else if (event.key === "Escape" && this.query) {
        event.preventDefault();
        form.q.value = "";
        this.enter(1);
      }
    });
    form.q.addEventListener("search", () => { if (!form.q.value) this.enter(1); });
  }

  forget(query) {
    this.stop?.abort();
    this.stop = new AbortController();
    this.query = query;
    this.hits = [];
    this.at = -1;
    this.next = 0; // where to look on; null at the end
    this.upto = 0; // bytes of the log that were looked at
    this.problem = "";
  }

  // The log began anew: what was found in it is no longer there.
  restart() {
    this.forget("");
    this.view.show("", null);
    this.tell();
  }

  // To the next (1) or previous (-1) line that holds what stands in the field.
  async enter(step) {
    const query = this.form.q.value;
    if (query !== this.query) this.forget(query);
    if (!query) {
      this.view.show("", null);
      return this.tell();
    }
    const { stop } = this;
    if (this.next === null && this.view.size() > this.upto) this.next = this.upto; // it has grown
    if (this.at + step >= this.hits.length) await this.look(this.hits.length + 1);
    if (stop.signal.aborted) return;
    const count = this.hits.length;
    if (count) {
      this.at = this.at < 0 && step < 0 ? count - 1 : (this.at + step + count) % count;
      this.tell();
      await this.view.show(query, this.hits[this.at]);
    } else this.view.show(query, null);
    this.tell();
    if (count < ENOUGH) this.look(ENOUGH);
  }

  // Until so many lines are known, or the log is at its end.
  look(count) {
    this.looking = (this.looking ?? Promise.resolve()).then(() => this.lookNow(count));
    return this.looking;
  }

  async lookNow(count) {
    const { stop, query } = this;
    while (query && this.next !== null && this.hits.length < count && !stop.signal.aborted) {
      const wanted = new URLSearchParams({ q: query, from: this.next });
      try {
        const options = { signal: stop.signal, headers: { Accept: "application/json" } };
        const answer = await fetch(`${this.address}?${wanted}`, options);
        const found = await answer.json();
        if (!answer.ok) throw new Error(found.detail);
        if (stop.signal.aborted) return;
        const last = this.hits.at(-1) ?? -1; // a line that has grown since may be found again
        this.hits.push(...found.data.map((line) => line.offset).filter((offset) => offset > last));
        this.next = found.next;
        this.upto = found.next ?? found.size;
        this.problem = "";
      } catch (error) {
        if (stop.signal.aborted) return;
        this.problem = error instanceof TypeError ? "no connection" : error.message;
        return this.tell();
      }
      this.tell();
    }
  }

  tell() {
    const { hits, at, next } = this;
    const lines = (count) => `${count.toLocaleString("en")} line${count === 1 ? "" : "s"}`;
    let text = "";
    if (this.query) {
      const soFar = next === null ? "" : " so far";
      text = hits.length ? `${lines(hits.length)}${soFar}` : next === null ? "not found" : "";
      if (hits.length && at >= 0) text = `${(at + 1).toLocaleString("en")} of ${text}`;
      if (next && hits.length < ENOUGH) text += `${text ? ", " : ""}looked at ${size(next)} of ${size(this.view.size())}`;
      if (this.problem) text = this.problem;
    }
    this.form.found.value = text;
    this.form.previous.disabled = hits.length === 0;
    this.form.next.textContent = at < 0 || this.form.q.value !== this.query ? "Find" : "Next";
  }
}
