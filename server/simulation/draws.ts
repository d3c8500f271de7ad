/**
 * Chance from a seed, by name: the n-th draw under a name is always the same, whatever else is drawn. So a history stays nearly as it
 * is when something is taken out of it, which is what shrinking lives on.
 */
export interface Draws {
  /** At least 0 and below 1. */
  unit(name: string): number;
  /** A whole number from `least` to `most`. */
  between(least: number, most: number, name: string): number;
  chance(probability: number, name: string): boolean;
  pick<T>(items: readonly [T, ...T[]], name: string): T;
}

export function drawsOf(seed: number): Draws {
  const counts = new Map<string, number>();

  function unit(name: string): number {
    const count = counts.get(name) ?? 0;
    counts.set(name, count + 1);
    return hash32(`${name}#${count}`, seed) / 2 ** 32;
  }

  return {
    unit,
    between: (least, most, name) => least + Math.floor(unit(name) * (most - least + 1)),
    chance: (probability, name) => unit(name) < probability,
    pick: (items, name) => items[Math.floor(unit(name) * items.length)] ?? items[0],
  };
}

/** FNV-1a over the text, then the finalizer of MurmurHash3, so that neighbouring counts have nothing in common. */
export function hash32(text: string, seed: number): number {
  let hash = (0x811c9dc5 ^ Math.imul(seed, 0x9e3779b1)) >>> 0;
  for (let index = 0; index < text.length; index += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
