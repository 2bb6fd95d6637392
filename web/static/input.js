// The input that was chosen, as it will be sent to a model: a zip as it is, or files that are
// zipped here. Which of the two, and from which folder on, depends on what the model needs.

import { many } from "./figures.js";
import { size as bytes } from "./lengths.js";
import { MOST_BYTES, commonFolder } from "./picked.js";
import { BadZip, contentOf, entriesOf, kindOf } from "./zipcheck.js";

const CONTAINERS = /\.(xlsx|xlsm|docx|pptx|ods|odt|odp|kmz|jar|gpkg|npz|qgz|3mf)$/i; // zips by another name

// {zip | items, name, entries, notes, fault}: ``name`` for the job, ``entries`` for firstlook
// (null where they are not known), ``notes`` what was done with the files, and ``fault`` why
// this cannot be an input at all, or "".
export async function prepare({ items, skipped, added }, files) {
  const notes = [];
  if (added) notes.push("Added to the files that were chosen before; “Remove” takes all of them away.");
  if (skipped.length) notes.push(`Left out, as the system's own: ${some(skipped)}.`);
  if (!items.length) {
    return { items, name: "", entries: null, notes, fault: "There are no files in it." };
  }
  const single = items.length === 1 && !items[0].path.includes("/") ? items[0] : null;
  if (single && !files.some((file) => file.name === single.path)) {
    const made = await archive(single.file);
    if (made) return { ...made, notes };
  }
  return { ...loose(items, files, notes), notes };
}

// A single file that is a zip, or should be one; null: a file like any other.
async function archive(file) {
  const named = /\.zip$/i.test(file.name);
  const kind = await kindOf(file);
  const name = file.name.replace(/\.(zip|7z|rar|tar|tgz|gz|bz2|xz|zst)$/i, "");
  if (kind === "a zip" ? !named && CONTAINERS.test(file.name) : !named && !packer(kind)) return null;
  try {
    const found = await entriesOf(file);
    const entries = found?.filter((entry) => !entry.folder).map((entry) => ({
      ...entry,
      read: (most) => contentOf(file, entry, most),
    }));
    const fault = entries?.length === 0 ? "The zip is empty: it holds no files." : "";
    return { zip: file, name, entries: entries ?? null, fault };
  } catch (error) {
    if (!(error instanceof BadZip)) throw error;
    return { zip: file, name, entries: null, fault: `${error.message} ${advice(kind)}`.trim() };
  }
}

const packer = (kind) => ["a gzip file", "a 7z file", "a RAR file", "a bzip2 file", "an xz file",
  "a zstd file", "a tar file", "a Windows cabinet"].includes(kind);

const advice = (kind) =>
  packer(kind)
    ? "Unpack it and choose the files or the folder: they are zipped here."
    : kind === "a zip" ? "" : "Choose a zip, or the files themselves: they are zipped here.";

function loose(items, files, notes) {
  const total = items.reduce((sum, { file }) => sum + file.size, 0);
  const folder = commonFolder(items);
  let sent = items;
  if (folder && fits(inside(items, folder), files) >= fits(items, files)) {
    sent = inside(items, folder);
    notes.push(`What is in the folder “${folder}” is sent, without the folder itself.`);
  }
  notes.push(items.length === 1 ? "It is zipped here before it is sent." : "They are zipped here before they are sent.");
  const zips = items.filter(({ path }) => /\.zip$/i.test(path));
  if (zips.length) {
    const sent = zips.length === 1 ? "sent as it is" : "sent as they are";
    notes.push(`${some(zips.map(({ path }) => path))}: ${sent}, inside the input. To send a zip as the whole input, choose it alone.`);
  }
  const fault = total > MOST_BYTES
    ? `These files have ${bytes(total)}; up to ${bytes(MOST_BYTES)} are zipped in the browser. ` +
      "Zip them with a program (7-Zip, say; method Deflate), and choose that zip: it may be larger."
    : "";
  const entries = sent.map(({ path, file }) => ({
    name: path,
    size: file.size,
    fault: path.includes("\\") ? "its name has a backslash; rename it" : "",
    read: async (most) => new Uint8Array(await file.slice(0, most).arrayBuffer()),
  }));
  return { items: sent, name: folder ?? called(items), entries, fault };
}

const inside = (items, folder) =>
  items.map(({ path, file }) => ({ path: path.slice(folder.length + 1), file }));

// How many of the model's files are where they must be.
function fits(items, files) {
  const paths = new Set(items.map(({ path }) => path));
  return files.filter((file) => paths.has(file.name)).length;
}

function called(items) {
  const first = items[0].path.split("/")[0].replace(/(.)\.[^.]*$/, "$1");
  return items.length === 1 ? first : `${first} and ${many(items.length - 1, "more file")}`;
}

function some(names, most = 3) {
  const rest = names.length - most;
  return names.slice(0, most).map((name) => `“${name}”`).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
