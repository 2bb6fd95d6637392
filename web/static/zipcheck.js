// A first look into a zip, in the browser: the end record and the directory are read through
// slices, so that a zip of any size costs a few reads. The server's look (spool/zipindex.py)
// is the strict one; this one is for telling people at once what would be refused there.

const END = 0x06054b50, END64 = 0x06064b50, LOCATOR = 0x07064b50, CENTRAL = 0x02014b50;
const LOCAL = 0x04034b50;
const FULL16 = 0xffff, FULL32 = 0xffffffff;
const MOST_DIRECTORY = 64 * 1024 ** 2; // bytes of a directory that are read into memory
const CUT = "It seems to be cut off or damaged: zip it, or copy it, again.";

const MAGIC = [
  ["504b", "a zip"], ["1f8b", "a gzip file"], ["377abcaf271c", "a 7z file"], ["52617221", "a RAR file"],
  ["425a68", "a bzip2 file"], ["fd377a585a00", "an xz file"], ["28b52ffd", "a zstd file"],
  ["25504446", "a PDF"], ["4d534346", "a Windows cabinet"],
];
const METHODS = {
  1: "Shrink", 6: "Implode", 9: "Deflate64", 12: "BZIP2", 14: "LZMA", 93: "Zstandard", 95: "XZ",
  98: "PPMd", 99: "AES encryption",
};
// Code page 437 above 127: what a zip's names are in when they are not UTF-8.
const CP437 =
  "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐" +
  "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u00a0";

export class BadZip extends Error {}

// What the first bytes say that a file is, or null: "a zip", "a gzip file", "a 7z file" ...
export async function kindOf(blob) {
  const head = await bytesOf(blob, 0, Math.min(blob.size, 265));
  const hex = [...head.slice(0, 6)].map((b) => b.toString(16).padStart(2, "0")).join("");
  const known = MAGIC.find(([magic]) => hex.startsWith(magic));
  if (known) return known[1];
  if (new TextDecoder("latin1").decode(head.slice(257, 262)) === "ustar") return "a tar file";
  const text = new TextDecoder().decode(head).trimStart().toLowerCase();
  return /^<(!doctype html|html|head)/.test(text) ? "a web page" : null;
}

// The entries of a zip: {name, size, packed, method, at, folder, fault}. ``fault``: why the
// server will refuse it, or "". Rejects with BadZip, in words for people.
export async function entriesOf(blob) {
  if (!blob.size) throw new BadZip("The file is empty.");
  const kind = await kindOf(blob);
  if (kind !== "a zip") throw new BadZip(`This is no zip file${kind ? ` but ${kind}` : ""}.`);
  const { count, start, length } = await findDirectory(blob);
  if (length > MOST_DIRECTORY) return null; // the server will count them
  const view = await viewOf(blob, start, length);
  const entries = [];
  let at = 0;
  for (let number = 0; number < count; number++) {
    const entry = readCentral(view, at);
    entries.push(entry);
    at = entry.next;
  }
  return entries;
}

// Up to ``most`` unpacked bytes of an entry's beginning; null where this browser cannot.
export async function contentOf(blob, entry, most) {
  const head = await viewOf(blob, entry.at, 30);
  if (head.getUint32(0, true) !== LOCAL) throw new BadZip(CUT);
  const start = entry.at + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const data = blob.slice(start, start + entry.packed);
  if (entry.method === 0) return bytesOf(data, 0, Math.min(most, data.size));
  let inflate;
  try {
    inflate = new DecompressionStream("deflate-raw");
  } catch {
    return null;
  }
  return beginning(data.stream().pipeThrough(inflate), most);
}

async function beginning(stream, most) {
  const reader = stream.getReader();
  const pieces = [];
  let size = 0;
  while (size < most) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    size += value.length;
  }
  reader.cancel().catch(() => {}); // what follows is not wanted
  return new Uint8Array(await new Blob(pieces).slice(0, most).arrayBuffer());
}

async function findDirectory(blob) {
  const from = Math.max(0, blob.size - 22 - FULL16);
  const tail = await viewOf(blob, from, blob.size - from);
  let at = tail.byteLength - 22;
  const ends = (at) => tail.getUint32(at, true) === END && at + 22 + tail.getUint16(at + 20, true) === tail.byteLength;
  while (at >= 0 && !ends(at)) at--;
  if (at < 0) throw new BadZip(`The zip has no end. ${CUT}`);
  let count = tail.getUint16(at + 10, true);
  let length = tail.getUint32(at + 12, true), start = tail.getUint32(at + 16, true);
  let end = from + at;
  if (at >= 20 && tail.getUint32(at - 20, true) === LOCATOR) {
    end = Number(tail.getBigUint64(at - 12, true));
    const wide = await viewOf(blob, end, 56);
    if (wide.getUint32(0, true) !== END64) throw new BadZip(CUT);
    count = Number(wide.getBigUint64(32, true));
    length = Number(wide.getBigUint64(40, true));
    start = Number(wide.getBigUint64(48, true));
  }
  if (start + length !== end) throw new BadZip(`The zip's directory is not where it must be. ${CUT}`);
  return { count, start, length };
}

function readCentral(view, at) {
  if (at + 46 > view.byteLength || view.getUint32(at, true) !== CENTRAL) throw new BadZip(CUT);
  const flags = view.getUint16(at + 8, true), method = view.getUint16(at + 10, true);
  const nameEnd = at + 46 + view.getUint16(at + 28, true);
  const extraEnd = nameEnd + view.getUint16(at + 30, true);
  const next = extraEnd + view.getUint16(at + 32, true);
  if (next > view.byteLength) throw new BadZip(CUT);
  const raw = new Uint8Array(view.buffer, view.byteOffset + at + 46, nameEnd - at - 46);
  const name = nameOf(raw, flags);
  const [size, packed, offset] = wide(view, nameEnd, extraEnd, [
    view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true),
  ]);
  const folder = name.endsWith("/");
  return { name, size, packed, method, at: offset, folder, next, fault: faultOf(name, flags, method) };
}

// The sizes that do not fit in 32 bits stand in the extra field 1, in this order.
function wide(view, at, end, values) {
  while (at + 4 <= end && values.includes(FULL32)) {
    const kind = view.getUint16(at, true), next = at + 4 + view.getUint16(at + 2, true);
    if (kind === 1 && next <= end) {
      let from = at + 4;
      return values.map((value) => {
        if (value !== FULL32 || from + 8 > next) return value;
        from += 8;
        return Number(view.getBigUint64(from - 8, true));
      });
    }
    at = next;
  }
  return values;
}

function nameOf(raw, flags) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(raw);
  } catch {
    if (flags & 0x800) return new TextDecoder().decode(raw);
    return Array.from(raw, (b) => (b < 128 ? String.fromCharCode(b) : CP437[b - 128])).join("");
  }
}

function faultOf(name, flags, method) {
  if (flags & 0x2041) return "it is encrypted; zip it again without a password";
  if (method === 9) {
    return "it is packed with Deflate64, as Windows Explorer does above 2 GB; zip it with 7-Zip, method Deflate";
  }
  if (method !== 0 && method !== 8) {
    return `it is packed with ${METHODS[method] ?? `method ${method}`}; zip it again with the method Deflate`;
  }
  if (name.includes("\\")) return "its name has a backslash; folders in a zip are parted by '/'";
  if (name.startsWith("/") || /^[A-Za-z]:/.test(name) || name.split("/").includes("..")) {
    return "its name leads out of the zip; zip the folder that holds it";
  }
  return "";
}

async function bytesOf(blob, at, length) {
  const bytes = new Uint8Array(await blob.slice(at, at + length).arrayBuffer());
  if (at < 0 || bytes.length < length) throw new BadZip(CUT);
  return bytes;
}

async function viewOf(blob, at, length) {
  return new DataView((await bytesOf(blob, at, length)).buffer);
}
