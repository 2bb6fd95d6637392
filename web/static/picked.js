// What somebody dropped or picked, as a list of {path, file}: loose files, folders, or both.

const MOST_FILES = 50_000; // the server takes no more in one zip (spool/entrynames.py)
export const MOST_BYTES = 2 * 1024 ** 3; // of what is zipped here; a zip made elsewhere may be larger

// What systems put into folders for themselves. "._name" is macOS' second half of a file
// on a disk that has no room for it.
const LITTER = /(^|\/)(\.DS_Store|Thumbs\.db|desktop\.ini|\._[^/]*|__MACOSX(\/.*)?)$/i;

class TooMuch extends Error {}

// Of a drop event's dataTransfer. Its items are gone once the event is over, so what they
// are is asked at once, before the first await.
export function dropped(transfer) {
  const things = [];
  for (const item of transfer.items) {
    if (item.kind !== "file") continue;
    const entry = item.webkitGetAsEntry?.();
    things.push(entry ?? item.getAsFile());
  }
  return walk(things.filter(Boolean));
}

// Of an <input type="file">, with or without webkitdirectory.
export function chosen(files) {
  return sorted([...files].map((file) => ({ path: file.webkitRelativePath || file.name, file })));
}

async function walk(things) {
  const found = [];
  const waiting = things.reverse();
  while (waiting.length) {
    const thing = waiting.pop();
    if (thing instanceof File) found.push({ path: thing.name, file: thing });
    else if (thing.isDirectory) waiting.push(...(await children(thing)).reverse());
    else found.push({ path: thing.fullPath.replace(/^\//, ""), file: await fileOf(thing) });
    if (found.length > MOST_FILES) throw tooMany(`more than ${MOST_FILES.toLocaleString("en")}`);
  }
  return sorted(found);
}

async function children(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) { // each answer holds some of them; an empty one is the end
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return all;
    all.push(...some);
  }
}

const fileOf = (entry) => new Promise((done, failed) => entry.file(done, failed));

function tooMany(count) {
  return new TooMuch(
    `${count} files were chosen; at most ${MOST_FILES.toLocaleString("en")} are allowed. ` +
    "Choose only what the model needs, or pack the many small files into few.",
  );
}

// Without litter, in the order of their paths; names as all systems but macOS write accents.
function sorted(found) {
  const items = [], skipped = [];
  for (const { path, file } of found) {
    const named = path.normalize("NFC");
    if (LITTER.test(named)) skipped.push(named);
    else items.push({ path: named, file });
  }
  if (items.length > MOST_FILES) throw tooMany(items.length.toLocaleString("en"));
  items.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  return { items, skipped: skipped.sort() };
}

// What was picked now, with what was picked before: loose files add up, since somebody who is
// told that one is missing adds that one. A zip or a folder is an input by itself. A file of
// the same name takes the place of the older one.
export function together(before, now) {
  if (!before?.items.length || !isLoose(before) || !isLoose(now)) return now;
  const names = new Set(now.items.map(({ path }) => path));
  const kept = before.items.filter(({ path }) => !names.has(path));
  const skipped = [...new Set([...before.skipped, ...now.skipped])];
  return { ...sorted([...kept, ...now.items]), skipped: skipped.sort(), added: kept.length > 0 };
}

const isLoose = ({ items }) =>
  items.every(({ path }) => !/[/]|\.(zip|7z|rar|tar|tgz|gz|bz2|xz|zst)$/i.test(path));

// The folder in which all of them lie, or null.
export function commonFolder(items) {
  const first = items[0]?.path.split("/", 1)[0];
  return items.length && items.every(({ path }) => path.startsWith(first + "/")) ? first : null;
}
