// A piece of a log, in bytes, as lines that know where in the log they stand. Pure.

export const LONGEST = 16 * 1024; // bytes of one line in the page; what is longer is folded

const NEWLINE = 10, RETURN = 13;

// (bytes, the offset of the first) -> [{ at, end, bytes, whole }]. "at" and "end" are offsets in
// the log. The last line is not "whole" while its newline is not there. "at": where the first
// line began, if not all of its bytes were kept.
export function split(bytes, offset, at = offset) {
  const lines = [];
  for (let begin = 0; begin < bytes.length; ) {
    const found = bytes.indexOf(NEWLINE, begin);
    const whole = found >= 0;
    const end = whole ? found + 1 : bytes.length;
    const from = begin === 0 ? at : offset + begin;
    if (end - begin <= LONGEST) {
      lines.push({ at: from, end: offset + end, bytes: bytes.subarray(begin, end), whole });
    } else {
      lines.push(...folded(bytes.subarray(begin, end), offset + begin, from, whole));
    }
    begin = end;
  }
  return lines;
}

// A progress bar writes over its line, so of that the end is enough; any other line is cut.
function folded(bytes, offset, at, whole) {
  const end = offset + bytes.length;
  const last = bytes.lastIndexOf(RETURN, bytes.length - 3);
  const first = bytes.indexOf(RETURN, bytes.length - LONGEST);
  if (first >= 0 && first <= last) return [{ at, end, bytes: bytes.subarray(first), whole }];
  const pieces = [];
  for (let from = 0; from < bytes.length; ) {
    let to = Math.min(from + LONGEST, bytes.length);
    while (to < bytes.length && to > from + 1 && isContinuation(bytes[to])) to--;
    const isLast = to === bytes.length;
    pieces.push({
      at: from === 0 ? at : offset + from,
      end: offset + to,
      bytes: bytes.subarray(from, to),
      whole: isLast ? whole : true,
    });
    from = to;
  }
  return pieces;
}

// How many bytes at the beginning belong to a line that began before this piece.
export function rest(bytes) {
  const newline = bytes.subarray(0, LONGEST).indexOf(NEWLINE);
  if (newline >= 0 && newline + 1 < bytes.length) return newline + 1;
  let skip = 0;
  while (skip < 3 && skip < bytes.length && isContinuation(bytes[skip])) skip++;
  return skip;
}

// The bytes up to their last newline, if "cut" says that they end anywhere.
export function untilLine(bytes, cut) {
  const newline = bytes.lastIndexOf(NEWLINE);
  return cut && newline >= 0 ? bytes.subarray(0, newline + 1) : bytes;
}

// Where the last "most" lines begin, at "from" or behind it.
export function lastLines(bytes, most, from = 0) {
  let begin = bytes.length;
  for (let count = 0; count < most && begin > from; count++) {
    begin = begin > 1 ? bytes.lastIndexOf(NEWLINE, begin - 2) + 1 : 0;
  }
  return Math.max(begin, from);
}

// The bytes of the first "most" lines.
export function firstLines(bytes, most) {
  let end = 0;
  for (let count = 0; count < most && end < bytes.length; count++) {
    end = bytes.indexOf(NEWLINE, end) + 1 || bytes.length;
  }
  return bytes.subarray(0, end);
}

const isContinuation = (byte) => (byte & 0xc0) === 0x80;
