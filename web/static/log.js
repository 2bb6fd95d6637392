// The log of a job: a window of it in the page, read by offset, that follows what is written.

import { places, size } from "./lengths.js";
import { firstLines, lastLines, rest, untilLine } from "./loglines.js";
import { BYTES, LINES, LogView } from "./logview.js";
import { LogSearch } from "./logsearch.js";

const STEP = BYTES / 2; // bytes read at once
const ROWS = LINES / 2; // lines added at once at an end of the window: what was read stays in it
const BEHIND = 512 * 1024; // bytes behind the end from which on parts are left out
const NEAR_END = 30; // CSS pixels
const PATIENCE = 30_000; // milliseconds for a piece of it
const PROGRESS = /^::progress +\d{1,3} +(\S.*)$/gm;

export class Log {
  // "page": #job. "address": where the log is read. "announce": tells a screen reader.
  constructor(page, address, announce) {
    this.page = page;
    this.address = address;
    this.announce = announce;
    this.element = page.querySelector("#log");
    this.place = page.querySelector("#log-place");
    this.tools = page.querySelector("#log-tools");
    this.size = Number(this.element.dataset.end);
    this.attempt = page.dataset.attempt;
    this.final = page.dataset.final === "yes";
    this.follows = !this.final;
    this.behind = false;
    this.last = Promise.resolve();
    this.turns = 0; // under way, or waiting for it
    this.said = "";
    this.memory = `log:${page.dataset.id}`;
  }

  async begin() {
    this.view = new LogView(this.element);
    this.wire();
    const kept = this.recalled();
    this.wrap(kept.wrap !== false);
    const linked = /^#log=(\d{1,16})$/.exec(location.hash);
    const from = linked ? Number(linked[1]) : kept.follows ? null : kept.at;
    if (this.size === 0) this.tell();
    else if (from !== null && from !== undefined && from < this.size) {
      this.follow(false);
      await this.inTurn(() => this.showAt(from, linked ? "center" : "start"));
      if (linked) this.element.scrollIntoView({ block: "nearest" });
    } else {
      this.follow(!this.final && kept.follows !== false);
      await this.inTurn(() => this.showEnd());
    }
  }

  // What polling found: how long the log is by now, of which attempt, and whether more can come.
  update({ size: now, attempt, final }) {
    this.final = final;
    if (attempt !== this.attempt) {
      this.attempt = attempt;
      this.size = 0;
      this.search.restart();
      this.inTurn(() => this.view.replace(new Uint8Array(), 0, 0));
    }
    this.size = Math.max(this.size, now);
    this.tools.querySelector("#follow").hidden = final;
    this.catchUp();
  }

  // Reads what is known to be there and shall be shown, unless something is being read.
  catchUp() {
    const more = this.size > this.view.end && (this.follows || !this.view.isFull);
    if (!more) this.tell();
    else if (!this.turns) this.inTurn(() => this.grow());
  }

  // --- reading

  async read(from, to) {
    const length = Math.min(to, this.size) - from;
    if (length <= 0) return new Uint8Array();
    const headers = { Range: `bytes=0-${length - 1}` }; // it counts from the offset
    const signal = AbortSignal.timeout(PATIENCE);
    const answer = await fetch(`${this.address}?offset=${from}`, { headers, signal, cache: "no-store" });
    const ours = answer.headers.get("X-Log-Attempt") === this.attempt;
    if (!answer.ok || !ours) throw new Error(`the log could not be read: ${answer.status}`);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    return bytes.subarray(0, length);
  }

  // One after the other: each looks at what the one before it left.
  inTurn(what) {
    this.turns++;
    this.last = this.last.then(what).then(() => this.tell(), () => this.tell(true));
    return this.last.finally(() => { this.turns--; });
  }

  async showEnd() {
    const from = Math.max(0, this.size - STEP);
    const bytes = await this.read(from, this.size);
    const skip = from ? rest(bytes) : 0;
    this.view.replace(bytes.subarray(skip), from + skip, this.size);
    this.findProgress(bytes);
    this.toEnd();
  }

  // A window around an offset, with its line at the top or in the middle.
  async showAt(offset, block) {
    let line = this.view.lineAt(offset);
    if (!line) {
      const from = Math.max(0, offset - STEP / 2);
      const bytes = untilLine(await this.read(from, from + STEP), from + STEP < this.size);
      const skip = from ? rest(bytes) : 0;
      this.view.replace(bytes.subarray(skip), from + skip, offset);
      line = this.view.lineAt(offset) ?? this.view.lines[0];
    }
    if (!line) return;
    const { offsetTop, offsetHeight } = line.node;
    const above = block === "center" ? (this.element.clientHeight - offsetHeight) / 2 : 0;
    this.element.scrollTop = line.at === 0 ? 0 : offsetTop - above;
  }

  async grow() {
    const { view } = this;
    if (this.follows && this.size - view.end > BEHIND) {
      if (!this.behind) {
        this.announce("The log grows faster than it can be shown: parts are left out here.");
      }
      this.behind = true;
      await this.showEnd();
    } else if (this.follows || !view.isFull) {
      this.behind = false;
      const bytes = await this.read(view.end, view.end + BEHIND);
      const skip = this.follows ? lastLines(bytes, LINES) : 0;
      if (skip) view.replace(bytes.subarray(skip), view.end + skip, this.size);
      else view.append(firstLines(bytes, LINES));
      this.findProgress(bytes);
      if (this.follows) {
        view.trimStart();
        this.toEnd();
      } else view.trimEnd();
    }
  }

  async earlier() {
    const { view } = this;
    if (view.start === 0) return;
    const from = Math.max(0, view.start - STEP);
    const bytes = await this.read(from, view.start);
    const skip = lastLines(bytes, ROWS, from ? rest(bytes) : 0);
    const top = this.top();
    view.prepend(bytes.subarray(skip), from + skip);
    view.trimEnd();
    this.toTop(top);
  }

  async later() {
    const { view } = this;
    if (view.end >= this.size) return;
    const bytes = await this.read(view.end, view.end + STEP);
    const top = this.top();
    view.append(firstLines(untilLine(bytes, view.end + STEP < this.size), ROWS));
    view.trimStart();
    this.toTop(top);
  }

  // --- scrolling

  get atBottom() {
    const { scrollTop, clientHeight, scrollHeight } = this.element;
    return scrollTop + clientHeight >= scrollHeight - NEAR_END;
  }

  get atEnd() { return this.atBottom && this.view.end >= this.size; }

  toEnd() { this.element.scrollTop = this.element.scrollHeight; }

  // The line at the top, and where it stands, so that it can stay there.
  top() {
    const line = this.view.topLine;
    return line && { line, shift: line.node.offsetTop - this.element.scrollTop };
  }

  toTop(top) {
    if (top?.line.node.isConnected) this.element.scrollTop = top.line.node.offsetTop - top.shift;
  }

  scrolled() {
    if (!this.view.lines.length) return;
    // While it follows, there may be more than is shown already: the bottom is what counts.
    if (!this.final) this.follow(this.follows ? this.atBottom : this.atEnd, false);
    this.edges();
    clearTimeout(this.remembers);
    this.remembers = setTimeout(() => { this.remember(); this.tell(); }, 200);
  }

  // Near an end of the window, what is beyond it is loaded.
  edges() {
    const { scrollTop, clientHeight, scrollHeight } = this.element;
    if (scrollHeight <= clientHeight) return; // a few very long lines: the buttons lead on
    if (this.moving) this.again = true;
    else if (scrollTop < clientHeight && this.view.start > 0) this.move(() => this.earlier());
    else if (!this.follows && scrollTop + 2 * clientHeight > scrollHeight && this.view.end < this.size) {
      this.move(() => this.later());
    }
  }

  async move(what) {
    this.moving = true;
    this.again = false;
    await this.inTurn(what);
    this.moving = false;
    if (this.again) this.edges(); // it was scrolled on meanwhile
  }

  // --- what it is told to do

  wire() {
    const on = (name, what) => {
      this.tools.querySelector(`[name=${name}]`).addEventListener("click", what);
    };
    on("start", () => { this.follow(false); this.inTurn(() => this.showAt(0, "start")); });
    on("end", () => { this.follow(!this.final); this.inTurn(() => this.showEnd()); });
    on("earlier", () => { this.follow(false); this.pageUp(); });
    on("later", () => this.pageDown());
    on("follow", (event) => {
      this.follow(event.target.checked);
      if (this.follows) this.inTurn(() => this.showEnd());
    });
    on("wrap", (event) => this.wrap(event.target.checked));
    this.element.addEventListener("scroll", () => this.scrolled(), { passive: true });
    // Where lines are wrapped otherwise than before, the end is elsewhere.
    new ResizeObserver(() => { if (this.follows) this.toEnd(); }).observe(this.element);
    addEventListener("pagehide", () => this.remember());
    addEventListener("hashchange", () => {
      const linked = /^#log=(\d{1,16})$/.exec(location.hash);
      if (!linked || Number(linked[1]) >= this.size) return;
      this.follow(false);
      this.inTurn(() => this.showAt(Number(linked[1]), "center"));
    });
    this.search = new LogSearch(this.tools.querySelector("#log-search"), this.address, {
      show: (query, offset) => this.found(query, offset),
      size: () => this.size,
    });
  }

  pageUp() {
    const { element } = this;
    element.scrollTop -= element.clientHeight * 0.9;
    if (element.scrollTop < element.clientHeight) this.move(() => this.earlier());
  }

  pageDown() {
    const { element } = this;
    element.scrollTop += element.clientHeight * 0.9;
    if (element.scrollTop + 2 * element.clientHeight > element.scrollHeight) this.move(() => this.later());
  }

  async found(query, offset) {
    if (offset === null) return this.view.mark(query, null);
    this.follow(false);
    await this.inTurn(async () => {
      this.view.mark(query, offset);
      await this.showAt(offset, "center");
      this.view.lineAt(offset)?.node.scrollIntoView({ block: "nearest" }); // the page, too
    });
    history.replaceState(history.state, "", `#log=${offset}`);
  }

  follow(on, byHand = true) {
    this.follows = on && !this.final;
    const box = this.tools.querySelector("#follow");
    box.hidden = this.final;
    box.querySelector("input").checked = this.follows;
    if (byHand && on && location.hash.startsWith("#log=")) {
      history.replaceState(history.state, "", location.pathname + location.search);
    }
    if (byHand) this.remember();
  }

  wrap(on) {
    const top = this.follows ? null : this.top();
    this.element.classList.toggle("unwrapped", !on);
    this.tools.querySelector("[name=wrap]").checked = on;
    if (this.follows) this.toEnd();
    else this.toTop(top);
    this.remember();
  }

  // --- what is remembered until the tab is closed, and what is told

  recalled() {
    try {
      return JSON.parse(sessionStorage.getItem(this.memory)) ?? {};
    } catch {
      return {};
    }
  }

  remember() {
    if (!this.view?.lines.length) return;
    const wrap = !this.element.classList.contains("unwrapped");
    const state = { follows: this.follows || this.atEnd, at: this.view.topLine.at, wrap };
    try {
      sessionStorage.setItem(this.memory, JSON.stringify(state));
    } catch { /* no room, or not allowed: then it is not remembered */ }
  }

  findProgress(bytes) {
    if (this.final) return;
    const text = new TextDecoder().decode(bytes.subarray(-16 * 1024));
    const said = [...text.matchAll(PROGRESS)].at(-1)?.[1].trim().slice(0, 200);
    const doing = this.page.querySelector("#doing");
    if (said && doing && doing.textContent !== said) doing.textContent = said;
  }

  tell(failed = false) {
    const { start, end } = this.view;
    let text = places(start, end, this.size);
    if (failed) text = `The log could not be read; ${this.final ? "load the page again" : "it is tried again"}.`;
    else if (this.size === 0) text = this.final ? "There is no log." : "There is no log yet.";
    else if (start === 0 && end >= this.size) text = `${size(this.size)}, all of it`;
    else if (end < this.size && !this.follows && !this.final) text += "; more was written since";
    if (this.behind && this.follows) text += "; it grows fast, so parts are left out here";
    if (text !== this.said) this.place.textContent = this.said = text;
    const set = (name, off) => { this.tools.querySelector(`[name=${name}]`).disabled = off; };
    set("start", start === 0 && this.element.scrollTop === 0);
    set("earlier", start === 0 && this.element.scrollTop === 0);
    set("later", this.atEnd);
    set("end", this.atEnd);
    const { scrollHeight, clientHeight } = this.element;
    const fits = start === 0 && end >= this.size && scrollHeight <= clientHeight + 1;
    this.tools.querySelector("#log-steps").hidden = fits;
    this.tools.hidden = this.page.querySelector("#raw").hidden = this.size === 0;
  }
}
