// What the browser can tell about an input before a byte is sent: is what the model needs in it?
// It informs. The server looks again, strictly, and what it says is what holds.

const MOST_TEXT = 64 * 1024; // bytes of a file that are looked into, as at the server

// How files begin that are no text, whatever their name says.
const NO_TEXT = [
  [[0x50, 0x4b, 3, 4], "an Excel workbook, or a zip"], [[0xd0, 0xcf, 0x11, 0xe0], "an Excel or Word file"],
  [[0x25, 0x50, 0x44, 0x46], "a PDF"], [[0x1f, 0x8b], "a gzip file"],
  [[0xff, 0xfe], "text in UTF-16, not UTF-8"], [[0xfe, 0xff], "text in UTF-16, not UTF-8"],
];

const SHEETS = /\.(xlsx|xlsm|xls|ods)$/i;

// ``entries``: {name, size, fault, read(most)} of each file; ``files``: what the model says of
// its input. The lines {mark, file, text, sure}: mark is "good", "bad" or "note"; a bad one
// that is sure will be refused by the server too.
export async function look(entries, files) {
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  const lines = [];
  const hints = new Set();
  for (const file of files) {
    const entry = byName.get(file.name);
    lines.push(entry ? await present(file, entry) : missing(file, entries, files, hints));
  }
  for (const entry of entries.filter((entry) => entry.fault).slice(0, 5)) {
    lines.push({ mark: "bad", file: entry.name, text: entry.fault, sure: true });
  }
  return [...lines, ...namesakes(entries)];
}

// ``hints``: what was said already; the same advice for each of ten files would be noise.
function missing(file, entries, files, hints) {
  if (file.optional) {
    return { mark: "note", file: file.name, text: "is not there; the model does not insist on it" };
  }
  const advice = hint(file, entries, files);
  const text = hints.has(advice) ? "is missing too." : `is missing. ${advice}`;
  hints.add(advice);
  return { mark: "bad", file: file.name, text, sure: true };
}

function hint(file, entries, files) {
  const wanted = file.name, lower = wanted.toLowerCase();
  const names = entries.map((entry) => entry.name);
  const deep = names.find((name) => name.endsWith("/" + wanted));
  if (deep) {
    const folder = deep.slice(0, -wanted.length);
    const others = files.filter((f) => !f.optional && !names.includes(f.name));
    const all = others.every((f) => names.includes(folder + f.name));
    const where = `It lies in the folder “${folder.slice(0, -1)}”`;
    return all
      ? `${where}: choose that folder here, or zip what is in it and not the folder itself.`
      : `${where}, and must lie at the top.`;
  }
  const other = names.find((name) => name.toLowerCase() === lower)
    ?? names.find((name) => name.toLowerCase().endsWith("/" + lower));
  if (other) return `“${other}” is not the same name: capital letters count.`;
  const longer = names.find((name) => name.toLowerCase().startsWith(lower + "."));
  if (longer) return `“${longer}” has an ending too many: rename it to “${wanted}”.`;
  const near = names.find((name) => stem(name) === stem(wanted));
  const sheet = /\.csv$/i.test(wanted) && [near, ...names].find((name) => SHEETS.test(name ?? ""));
  if (sheet) return `“${sheet}” is a spreadsheet: save it as CSV, under the name “${wanted}”.`;
  if (names.length === 1 && /\.zip$/i.test(names[0])) {
    return `There is only another zip in it, “${names[0]}”: take that one out, and choose it.`;
  }
  if (near) return `There is “${near}”; is it the same under another name?`;
  return wanted.includes("/") ? "Add it to the input." : "Add it, at the top of the input.";
}

const stem = (name) => name.toLowerCase().split("/").pop().replace(/\.[^.]*$/, "");

async function present(file, entry) {
  const good = { mark: "good", file: file.name, text: "is there", size: entry.size };
  const read = file.columns.length > 0 || file.pattern !== null;
  if (!entry.size && !file.optional && !read && !entry.fault) {
    return { mark: "bad", file: file.name, text: "is empty", sure: true };
  }
  if (entry.fault || !read) return good;
  let data;
  try {
    data = await entry.read(MOST_TEXT);
  } catch {
    return { mark: "note", file: file.name, text: "is there, but cannot be read here" };
  }
  const wrong = data === null ? "" : contentsFault(file, entry, data);
  return wrong ? { mark: "bad", file: file.name, text: wrong, sure: false } : good;
}

// spool/expectations.py says the same of them, and more.
function contentsFault(file, entry, data) {
  if (!data.length) return `is empty; expected ${expected(file)}`;
  const other = NO_TEXT.find(([magic]) => magic.every((byte, place) => data[place] === byte));
  if (other) return `is ${other[1]}; expected ${expected(file)}`;
  if (data.includes(0)) return `is no text; expected ${expected(file)}`;
  const text = decoded(data);
  return columnsFault(file.columns, text) || patternFault(file, entry, text);
}

function decoded(data) {
  try {
    // of what was cut off in the middle of a letter, the letter is left out
    return new TextDecoder("utf-8", { fatal: true }).decode(data, { stream: true });
  } catch {
    return new TextDecoder("latin1").decode(data);
  }
}

const expected = (file) =>
  file.description || (file.columns.length ? `CSV text with the columns ${file.columns.map(quoted).join(", ")}` : `what matches ${file.pattern}`);

function columnsFault(columns, text) {
  if (!columns.length) return "";
  const found = headerOf(text, columns);
  const lacking = columns.filter((column) => !found.includes(column));
  if (!lacking.length) return "";
  const what = lacking.length === 1 ? "the column" : "the columns";
  const near = lacking.length === 1 && found.find((name) => name.trim().toLowerCase() === lacking[0].toLowerCase());
  const why = near ? `it has ${quoted(near)}: capital letters and blanks count`
    : `its first line has ${short(found.map(quoted).join(", "))}`;
  return `lacks ${what} ${lacking.map(quoted).join(", ")}; ${why}`;
}

// The fields of a CSV file's first line, parted as most of the ``wanted`` ones are found.
function headerOf(text, wanted = []) {
  const line = text.split(/\r\n|\n|\r/, 1)[0];
  const score = (names) => [wanted.filter((name) => names.includes(name)).length, names.length];
  return [",", ";", "\t"].map((separator) => fieldsOf(line, separator)).reduce((best, names) => {
    const [one, two] = [score(best), score(names)];
    return two[0] > one[0] || (two[0] === one[0] && two[1] > one[1]) ? names : best;
  });
}

function fieldsOf(line, separator) {
  const names = [];
  let name = "", inside = false;
  for (const character of line) {
    if (character === '"') inside = !inside;
    else if (character !== separator || inside) name += character;
    else {
      names.push(name);
      name = "";
    }
  }
  return [...names, name];
}

function patternFault(file, entry, text) {
  if (file.pattern === null) return "";
  if (entry.size > MOST_TEXT) return `is longer than ${MOST_TEXT / 1024} KiB; expected ${expected(file)}`;
  const pattern = translated(file.pattern);
  if (!pattern || pattern.test(text.trim())) return "";
  return `holds ${short(quoted(text.trim()))}; expected ${expected(file)}`;
}

// The server's patterns are Python's. What is written otherwise there is left to the server.
function translated(pattern) {
  if (/\(\?(?![:=!]|<[=!])|\\[AZz]|\(\?P|[+*?}]\+/.test(pattern)) return null;
  try {
    return new RegExp(`^(?:${pattern})$`, "u");
  } catch {
    return null;
  }
}

// Names that would be one and the same file on Windows or macOS; the server refuses them.
function namesakes(entries) {
  const seen = new Map(), lines = [];
  for (const { name } of entries) {
    const folded = name.toLowerCase().normalize("NFC");
    const other = seen.get(folded);
    if (other === undefined) seen.set(folded, name);
    else if (lines.length < 5) {
      const text = other === name ? "is there twice" : `differs only in capital letters or accents from “${other}”`;
      lines.push({ mark: "bad", file: name, text: `${text}; rename one of them`, sure: true });
    }
  }
  return lines;
}

const quoted = (text) => `“${text}”`;
const short = (text, most = 120) => (text.length > most ? text.slice(0, most) + "…" : text);
