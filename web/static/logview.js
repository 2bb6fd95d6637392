// A window of a log in the page: some lines, added and taken away at both ends.

import { split } from "./loglines.js";
import { PLAIN, render } from "./terminal.js";

export const BYTES = 256 * 1024; // of the log in the page at once
export const LINES = 4000;

export class LogView {
  // What is in the element stays until there is something to show instead.
  constructor(element) {
    this.element = element;
    this.lines = []; // { at, end, whole, bytes, before, runs, node }
    this.query = "";
    this.chosen = null; // the offset of the line that a search led to
    this.decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }

  get start() { return this.lines.length ? this.lines[0].at : this.empty ?? 0; }
  get end() { return this.lines.length ? this.lines.at(-1).end : this.empty ?? 0; }
  get isFull() { return this.end - this.start >= BYTES || this.lines.length >= LINES; }

  // Shows these bytes alone. If they have too many lines, those about "middle" are kept.
  replace(bytes, offset, middle) {
    this.empty = offset;
    let lines = split(bytes, offset);
    const at = lines.findIndex((line) => middle < line.end);
    const last = Math.max(0, lines.length - LINES);
    const first = at < 0 ? last : Math.min(last, Math.max(0, at - LINES / 2));
    lines = lines.slice(first, first + LINES);
    this.lines = this.rendered(lines, PLAIN);
    this.element.replaceChildren(...this.lines.map((line) => line.node));
  }

  // Adds what follows; a last line that was not whole goes on.
  append(bytes) {
    const last = this.lines.at(-1);
    if (!last) this.element.replaceChildren(); // what the server wrote
    let lines;
    if (last && !last.whole) {
      this.lines.pop();
      last.node.remove();
      const joined = new Uint8Array(last.bytes.length + bytes.length);
      joined.set(last.bytes);
      joined.set(bytes, last.bytes.length);
      lines = this.rendered(split(joined, last.end - last.bytes.length, last.at), last.before);
    } else {
      lines = this.rendered(split(bytes, this.end), last ? last.after : PLAIN);
    }
    this.lines.push(...lines);
    this.element.append(...lines.map((line) => line.node));
  }

  // Puts before what is there what ends where it begins.
  prepend(bytes, offset) {
    const lines = this.rendered(split(bytes, offset), PLAIN);
    this.lines.unshift(...lines);
    this.element.prepend(...lines.map((line) => line.node));
  }

  trimStart() {
    const least = this.end - BYTES;
    let gone = Math.max(0, this.lines.length - LINES);
    while (gone < this.lines.length - 1 && this.lines[gone].end <= least) gone++;
    for (const line of this.lines.splice(0, gone)) line.node.remove();
  }

  trimEnd() {
    const most = this.start + BYTES;
    let kept = Math.min(this.lines.length, LINES);
    while (kept > 1 && this.lines[kept - 1].at >= most) kept--;
    for (const line of this.lines.splice(kept)) line.node.remove();
  }

  // The line that holds this offset, or none.
  lineAt(offset) {
    return this.lines.find((line) => offset < line.end && offset >= line.at);
  }

  // The first line of which something can be seen.
  get topLine() {
    const top = this.element.scrollTop;
    let low = 0, high = this.lines.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      const { offsetTop, offsetHeight } = this.lines[middle].node;
      if (offsetTop + offsetHeight <= top) low = middle + 1;
      else high = middle;
    }
    return this.lines[low];
  }

  // Marks what is looked for, and the line that was found.
  mark(query, chosen) {
    const anew = query !== this.query;
    this.query = query;
    this.chosen = chosen;
    for (const line of this.lines) {
      if (anew) line.node.replaceChildren(...this.nodes(line.runs));
      this.choose(line);
    }
  }

  choose(line) {
    const isIt = this.chosen !== null && this.chosen >= line.at && this.chosen < line.end;
    line.node.classList.toggle("chosen", isIt);
    if (isIt) line.node.setAttribute("aria-current", "true");
    else line.node.removeAttribute("aria-current");
  }

  rendered(lines, style) {
    for (const line of lines) {
      const text = this.decoder.decode(line.bytes).replace(/\r?\n$/, "");
      const { runs, style: after } = render(text, style);
      Object.assign(line, { before: style, after, runs, node: document.createElement("div") });
      line.node.append(...this.nodes(runs));
      this.choose(line);
      if (line.whole) line.bytes = null;
      style = after;
    }
    return lines;
  }

  nodes(runs) {
    const parts = this.query ? marked(runs, this.query) : runs;
    if (parts.length === 0) return ["\n"]; // an empty line has a height, and can be copied
    return parts.map(([text, kind, hit]) => {
      if (!kind && !hit) return text;
      const node = document.createElement(hit ? "mark" : "span");
      if (kind && !hit) node.className = kind;
      node.textContent = text;
      return node;
    });
  }
}

// The runs, cut where the query (of any case) begins and ends: [text, classes, is it a hit].
function marked(runs, query) {
  const text = runs.map(([run]) => run).join("").toLowerCase();
  const wanted = query.toLowerCase();
  let from = text.indexOf(wanted);
  if (from < 0) return runs;
  const parts = [];
  let place = 0;
  for (const [run, kind] of runs) {
    let rest = run;
    while (rest) {
      while (from >= 0 && from + wanted.length <= place) from = text.indexOf(wanted, from + wanted.length);
      const inside = from >= 0 && place >= from;
      const stop = from < 0 ? Infinity : inside ? from + wanted.length : from;
      const piece = rest.slice(0, stop - place);
      parts.push([piece, kind, inside]);
      rest = rest.slice(piece.length);
      place += piece.length;
    }
  }
  return parts;
}
