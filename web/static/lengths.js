// Sizes and lengths of time as the server writes them (web/words.py, web/headline.py).

import { duration } from "./times.js";

export function size(count) {
  if (count < 1000) return `${count} B`;
  let value = count, unit = "";
  for (unit of ["kB", "MB", "GB", "TB"]) {
    value /= 1000;
    if (value < 999.5) break;
  }
  return value < 10 ? `${value.toFixed(1)} ${unit}` : `${value.toFixed(0)} ${unit}`;
}

// A length of time that is still growing, in seconds.
export function lasting(seconds) {
  const whole = Math.floor(seconds);
  return whole < 60 ? `${whole} s` : duration(whole);
}

// Places in a whole, all in the whole's unit: "12.31 to 12.56 of 500.00 MB".
export function places(from, to, whole) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(4, Math.floor(Math.log10(Math.max(1, whole)) / 3));
  const digits = power > 1 ? 2 : power;
  const [a, b, all] = [from, to, whole].map((count) => (count / 1000 ** power).toFixed(digits));
  return `${a} to ${b} of ${all} ${units[power]}`;
}
