// Writes a zip from files, in the browser. Contents are read as streams and packed into
// Blobs, which browsers keep on disk where they are large: nothing is ever whole in memory.
// Sizes stand below 4 GiB and counts below 65,536 (picked.js), so no 64-bit records are needed.

const UTF8 = 1 << 11; // flag: the name is UTF-8
const STORED = 0, DEFLATED = 8;
const VERSION = 20; // 2.0: folders and Deflate
const UNIX = 3 << 8; // who made it: then the upper attributes are Unix permissions
const PLAIN_FILE = (0o100644 << 16) >>> 0;
const AT_ONCE = 8; // files that are packed at the same time: small ones mostly wait
const GROUP = 4 * 1024 ** 2; // bytes that are put together into one Blob
const SMALL = 256 * 1024; // bytes; below, a file is read at once instead of as a stream

export class Unreadable extends Error {}

const TABLE = Int32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

export function crc32(bytes, before = 0) {
  let crc = ~before;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ TABLE[(crc ^ bytes[i]) & 0xff];
  return ~crc >>> 0;
}

const canDeflate = (() => {
  try {
    return Boolean(new CompressionStream("deflate-raw"));
  } catch {
    return false; // an older browser: then everything is stored as it is
  }
})();

// A Blob with ``items``, a list of {path, file}. ``tell(bytes)`` hears how many more were read.
// Rejects with Unreadable, naming the file, or with the signal's reason.
export async function zip(items, tell = () => {}, signal = undefined, deflate = canDeflate) {
  const parts = new Parts(), directory = new Parts();
  for await (const { path, file, ...packed } of inOrder(items, tell, signal, deflate)) {
    const entry = { ...packed, name: new TextEncoder().encode(path), file, at: parts.size };
    parts.add(localHeader(entry));
    parts.add(entry.data);
    directory.add(centralHeader(entry));
  }
  const last = endRecord(items.length, directory.size, parts.size);
  return new Blob([parts.blob(), directory.blob(), last], { type: "application/zip" });
}

// Pieces in a row. Small ones are put together, since each Blob costs the browser more than
// its bytes: a zip of 20,000 files would take minutes and half a gigabyte.
class Parts {
  size = 0;
  #blobs = [];
  #small = [];
  #waiting = 0;

  // ``piece``: an array of bytes, or a Blob.
  add(piece) {
    const length = piece.size ?? piece.length;
    this.size += length;
    this.#small.push(piece);
    this.#waiting += length;
    if (this.#waiting >= GROUP) this.#group();
  }

  blob() {
    this.#group();
    return new Blob(this.#blobs);
  }

  #group() {
    this.#blobs.push(new Blob(this.#small));
    this.#small = [];
    this.#waiting = 0;
  }
}

// Each of ``items``, packed; some are packed at the same time as those before them.
async function* inOrder(items, tell, signal, deflate) {
  const begun = [];
  let next = 0;
  try {
    for (const item of items) {
      while (next < items.length && begun.length < AT_ONCE) {
        begun.push(pack(items[next++], tell, signal, deflate));
        begun.at(-1).catch(() => {}); // heard when it is its turn
      }
      yield { ...item, ...(await begun.shift()) };
      signal?.throwIfAborted();
    }
  } finally {
    await Promise.allSettled(begun);
  }
}

// {method, crc, size, data}: packed where that makes it smaller, else as it is.
async function pack({ path, file }, tell, signal, deflate) {
  const read = { crc: 0, size: 0 };
  const note = (bytes) => {
    read.crc = crc32(bytes, read.crc);
    read.size += bytes.length;
    tell(bytes.length);
  };
  let data;
  try {
    data = await (file.size <= SMALL ? packSmall : packLarge)(file, note, signal, deflate);
  } catch (error) {
    signal?.throwIfAborted();
    throw new Unreadable(`${path} cannot be read (${error.message || error.name}). ` +
      "Was it changed, moved or taken away since it was chosen? Choose it again.");
  }
  if (read.size !== file.size) {
    throw new Unreadable(`${path} changed while it was read. Choose it again once nothing writes to it.`);
  }
  const packed = data.size ?? data.length;
  return { ...read, data, packed, method: packed === read.size ? STORED : DEFLATED };
}

async function packSmall(file, note, signal, deflate) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  note(bytes);
  if (!deflate || !bytes.length) return bytes;
  const squeeze = new CompressionStream("deflate-raw");
  const writer = squeeze.writable.getWriter();
  writer.write(bytes).catch(() => {}); // what goes wrong is heard at the other end
  writer.close().catch(() => {});
  const pieces = [];
  const reader = squeeze.readable.getReader();
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) pieces.push(value);
  const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
  if (length >= bytes.length) return bytes;
  const packed = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    packed.set(piece, at);
    at += piece.length;
  }
  return packed;
}

async function packLarge(file, note, signal, deflate) {
  const meter = new TransformStream({ transform(bytes, out) { note(bytes); out.enqueue(bytes); } });
  const stream = file.stream().pipeThrough(meter, { signal });
  if (!deflate) {
    await stream.pipeTo(new WritableStream());
    return file;
  }
  // a Response keeps what it gathers out of the page's memory
  const packed = await new Response(stream.pipeThrough(new CompressionStream("deflate-raw"))).blob();
  return packed.size < file.size ? packed : file;
}

function record(length, write) {
  const bytes = new Uint8Array(length);
  write(new DataView(bytes.buffer), bytes);
  return bytes;
}

function localHeader(entry) {
  return record(30 + entry.name.length, (view, bytes) => {
    view.setUint32(0, 0x04034b50, true);
    common(view, 4, entry);
    bytes.set(entry.name, 30);
  });
}

function centralHeader(entry) {
  return record(46 + entry.name.length, (view, bytes) => {
    view.setUint32(0, 0x02014b50, true);
    view.setUint16(4, UNIX | VERSION, true);
    common(view, 6, entry);
    view.setUint32(38, PLAIN_FILE, true);
    view.setUint32(42, entry.at, true);
    bytes.set(entry.name, 46);
  });
}

// What both headers say, from the version that is needed to the length of the name.
function common(view, at, entry) {
  const [time, date] = dosTime(new Date(entry.file.lastModified));
  view.setUint16(at, VERSION, true);
  view.setUint16(at + 2, UTF8, true);
  view.setUint16(at + 4, entry.method, true);
  view.setUint16(at + 6, time, true);
  view.setUint16(at + 8, date, true);
  view.setUint32(at + 10, entry.crc, true);
  view.setUint32(at + 14, entry.packed, true);
  view.setUint32(at + 18, entry.size, true);
  view.setUint16(at + 22, entry.name.length, true);
}

// Local time in steps of two seconds, from 1980 to 2107.
function dosTime(when) {
  const year = when.getFullYear();
  if (!(year >= 1980)) return [0, (1 << 5) | 1];
  if (year > 2107) return [0, (127 << 9) | (12 << 5) | 31];
  return [
    (when.getHours() << 11) | (when.getMinutes() << 5) | (when.getSeconds() >> 1),
    ((year - 1980) << 9) | ((when.getMonth() + 1) << 5) | when.getDate(),
  ];
}

function endRecord(count, length, at) {
  return record(22, (view) => {
    view.setUint32(0, 0x06054b50, true);
    view.setUint16(8, count, true);
    view.setUint16(10, count, true);
    view.setUint32(12, length, true);
    view.setUint32(16, at, true);
  });
}
