// Counts, speeds, times to come and sentences, as people read them.

export function many(count, one, more = `${one}s`) {
  return `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
}

// What the server says of a problem, as a sentence of its own.
export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?…]$/.test(whole) ? whole : `${whole}.`;
}

// Seconds that are left: rounded, since a number that jumps tells less than one that stands.
export function left(seconds) {
  if (!Number.isFinite(seconds)) return "";
  if (seconds < 10) return "a few seconds left";
  if (seconds < 60) return `${Math.ceil(seconds / 5) * 5} s left`;
  const minutes = Math.ceil(seconds / 60);
  if (minutes < 60) return `${minutes} min left`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min left`;
}

// Bytes a second over about the last MEMORY seconds, from what was counted when.
const MEMORY = 5;

export class Speed {
  #at = null;
  #count = 0;
  value = null;

  // count bytes so far, at now seconds.
  note(count, now) {
    if (this.#at === null || count < this.#count) {
      [this.#at, this.#count] = [now, count];
      return;
    }
    const seconds = now - this.#at;
    if (seconds < 0.25) return; // too short to tell
    const speed = (count - this.#count) / seconds;
    const weight = this.value === null ? 1 : 1 - Math.exp(-seconds / MEMORY);
    this.value = (this.value ?? 0) * (1 - weight) + speed * weight;
    [this.#at, this.#count] = [now, count];
  }
}
