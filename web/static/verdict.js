// What the page says of an input: in #check what is wrong with it, in #contents what it holds,
// and beside a field what is wrong with that.

import { el, name as bdi } from "./elements.js";
import { many } from "./figures.js";
import { size as bytes } from "./lengths.js";

const LISTED = 200; // files of an input that are shown by name
const MARKS = { good: "✓", bad: "✗", note: "–" };
const at = (id) => document.getElementById(id);

// Replaces what #check says. ``more``: elements below the text; null where there is none.
export function say(kind, title, text, ...more) {
  const children = [el("h3", {}, title), text ? el("p", {}, text) : null, ...more];
  at("check").replaceChildren(el("div", { className: kind }, ...children));
}

export function sayNothing() {
  at("check").replaceChildren();
}

// Adds a paragraph to what #check says.
export function sayBesides(...children) {
  at("check").firstElementChild.append(el("p", {}, ...children));
}

export function toCheck() {
  const check = at("check");
  check.focus({ preventScroll: true });
  check.scrollIntoView({ block: "nearest" });
}

// ``text`` beside a field, or "".
export function complain(field, text) {
  at(`${field}-problem`).textContent = text;
  const inputs = at("submit").querySelectorAll(`[name="${field}"]:not([type="radio"])`);
  for (const one of inputs) {
    if (text) one.setAttribute("aria-invalid", "true");
    else one.removeAttribute("aria-invalid");
  }
}

// The lines of a first look, as a list; null where there are none.
export function listOf(lines) {
  return lines.length ? el("ul", { className: "looks" }, ...lines.map(lineOf)) : null;
}

function lineOf({ mark, file, text, size }) {
  const sign = el("span", { className: "sign", ariaHidden: "true" }, MARKS[mark]);
  const said = el("span", {}, bdi(file), ` ${text}`, size === undefined ? "" : `, ${bytes(size)}`);
  return el("li", { className: mark }, sign, said);
}

// A server's findings, below what #check says.
export function sayFindings(findings) {
  const heads = ["File", "Expected", "Found"].map((text) => el("th", { scope: "col" }, text));
  const cell = (label, text) => {
    const made = el("td", {}, text);
    made.dataset.label = label;
    return made;
  };
  const rows = findings.map(({ file, expected, found }) =>
    el("tr", {}, el("td", { className: "head" }, bdi(file)), cell("Expected", expected), cell("Found", found)));
  at("check").append(el("table", { className: "cards findings" }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)));
}

export function showContents(entries) {
  const box = at("contents");
  box.hidden = !entries?.length;
  if (box.hidden) return;
  const total = entries.reduce((sum, { size }) => sum + size, 0);
  box.firstElementChild.textContent = `What it holds: ${many(entries.length, "file")}, ${bytes(total)}`;
  const rows = entries.slice(0, LISTED).map((entry) => el("li", {}, bdi(entry.name), el("span", { className: "quiet" }, bytes(entry.size))));
  const more = entries.length - LISTED;
  box.lastElementChild.replaceChildren(
    el("ul", { className: "files" }, ...rows),
    more > 0 ? el("p", { className: "quiet" }, `and ${many(more, "more file")}`) : "",
  );
}
