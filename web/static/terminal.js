// What a terminal would have left standing of a line of log: carriage returns and backspaces
// write over what was there, colours become classes, and every other sequence is dropped. Pure.
// web/terminal.py does the same without colours; tests/web/terminal_cases.json holds for both.

export const PLAIN = Object.freeze({ bold: false, fore: -1, back: -1 });

// CSI sequences (1: parameters, 2: what); OSC, DCS and the like with their text; other escapes.
// Each may be cut off at its end. Then the control characters, a few of which do something.
const CONTROLS = new RegExp(
  "\\x1b\\[([0-?]*)[ -/]*([@-~])?" +
    "|\\x1b[\\]PX^_][^\\x00-\\x1f\\x7f-\\x9f]*(?:\\x07|\\x1b\\\\)?" +
    "|\\x1b[ -/]*[0-~]?|[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f]",
  "g",
);
const SPECIAL = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/;
const BREAK = /\r?[\v\f]/; // ends a line as a newline does
const REST = /^(?:\[[0-9;:?]*|[0-9;:?]+)[A-HJKSTfhlmnrsu]/; // of a sequence that was cut in two

// (the text of a line without its newline, the style before it) ->
// { runs: [[text, classes], ...], style: the style after it }
export function render(text, style = PLAIN) {
  if (!SPECIAL.test(text)) return { runs: text ? [[text, classes(style)]] : [], style };
  const runs = [];
  for (const row of text.split(BREAK)) {
    if (runs.length) runs.push(["\n", ""]);
    const line = new Line();
    style = written(line, row, style);
    runs.push(...line.runs());
  }
  return { runs, style };
}

// All of a text that begins anywhere ("cut") or not, as plain text.
export function plain(text, cut = false) {
  const rows = (cut ? text.replace(REST, "") : text).split(/\r?\n/);
  return rows.map((row) => render(row).runs.map(([run]) => run).join("")).join("\n");
}

function written(line, row, style) {
  let at = 0;
  for (const found of row.matchAll(CONTROLS)) {
    const [token, parameters, final] = found;
    if (found.index > at) line.write(row.slice(at, found.index), classes(style));
    at = found.index + token.length;
    if (final === "m") style = styled(style, parameters);
    else if (final === "K") line.erase(parameters);
    else if (token === "\r") line.column = 0;
    else if (token === "\b") line.column = Math.max(0, line.column - 1);
    else if (!"\x1b\x00\x07".includes(token[0])) line.write("\ufffd", classes(style));
  }
  if (at < row.length) line.write(row.slice(at), classes(style));
  return style;
}

// The cells of one line; most lines are written once, from the left, and need none.
class Line {
  constructor() {
    this.column = 0; // never beyond the end of what is written
    this.pieces = []; // [text, classes], while nothing was written over
    this.cells = null; // [character, classes]
    this.length = 0; // in characters, while there are no cells
  }

  write(text, kind) {
    if (!this.cells && this.column === this.length) {
      this.pieces.push([text, kind]);
      this.length += count(text);
      this.column = this.length;
      return;
    }
    this.split();
    for (const character of text) this.cells[this.column++] = [character, kind];
  }

  // From the cursor on, or the whole line; all that do this go to its beginning as well.
  erase(how) {
    if (how === "2") this.column = 0;
    else if (how !== "" && how !== "0") return;
    this.split();
    this.cells.length = this.column;
  }

  split() {
    this.cells ??= this.pieces.flatMap(([text, kind]) => Array.from(text, (c) => [c, kind]));
  }

  runs() {
    const runs = [];
    for (const [text, kind] of this.cells ?? this.pieces) {
      const last = runs.at(-1);
      if (last && last[1] === kind) last[0] += text;
      else runs.push([text, kind]);
    }
    return runs;
  }
}

function count(text) {
  let characters = text.length;
  for (let i = 0; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) === 0xdc00) characters--;
  return characters;
}

// --- colours

function classes({ bold, fore, back }) {
  const names = [];
  if (bold) names.push("bold");
  if (back >= 0) names.push(`back-${back}`);
  if (fore >= 0) names.push(`fore-${fore}`);
  return names.join(" ");
}

function styled(style, parameters) {
  const codes = parameters.split(/[;:]/).map(Number);
  const next = { ...style };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code === 0) Object.assign(next, PLAIN);
    else if (code === 1) next.bold = true;
    else if (code === 22) next.bold = false;
    else if (code === 39) next.fore = -1;
    else if (code === 49) next.back = -1;
    else if (code >= 30 && code <= 37) next.fore = code - 30;
    else if (code >= 90 && code <= 97) next.fore = code - 82;
    else if (code >= 40 && code <= 47) next.back = code - 40;
    else if (code >= 100 && code <= 107) next.back = code - 92;
    else if (code === 38 || code === 48) {
      const [colour, used] = extended(codes.slice(i + 1));
      next[code === 38 ? "fore" : "back"] = colour;
      i += used;
    }
  }
  return next;
}

// 5;n and 2;r;g;b as the nearest of the 16 that read well in light and dark.
function extended(codes) {
  if (codes[0] === 5) return [indexed(codes[1] ?? 0), 2];
  if (codes[0] === 2) return [nearest(codes.slice(1, 4).map((value) => (value || 0) / 51)), 4];
  return [-1, codes.length];
}

function indexed(number) {
  if (number < 16) return number;
  if (number >= 232) return number < 238 ? 0 : number < 247 ? 8 : 7;
  const cube = number - 16;
  return nearest([Math.floor(cube / 36) % 6, Math.floor(cube / 6) % 6, cube % 6]);
}

// Red, green and blue from 0 to 5.
function nearest(parts) {
  const high = Math.max(...parts), low = Math.min(...parts);
  if (high - low < 1) return high < 1.5 ? 0 : high < 3.5 ? 8 : 7;
  const colour = parts.reduce((sum, part, bit) => sum + (part > (high + low) / 2 ? 1 << bit : 0), 0);
  return colour + (high > 4 ? 8 : 0);
}
