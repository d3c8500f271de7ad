import type { Leaf } from './order-steps.ts';

const made = new Map<string, Leaf>();
const beingMade: string[] = [];

/**
 * A named part of a pipeline, made once however often it is called, so that two branches share the same steps.
 * Throws when targets need each other in a circle.
 */
export function target<T extends Leaf>(
  name: string,
  make: () => T,
  options: { readonly dynamic?: boolean } = {},
): () => T {
  if (typeof name !== 'string' || name === '') throw new Error('target(): the first argument is its name.');
  if (options.dynamic === true) {
    throw new Error(
      `target ${JSON.stringify(name)}: dynamic targets cannot run. Drop { dynamic: true } to make it while rendering.`,
    );
  }
  const once = () => makeOnce(name, make);
  return once;
}

/** Forgets what targets made; the next call makes it anew. */
export function clearTargetCache(): void {
  made.clear();
}

function makeOnce<T extends Leaf>(name: string, make: () => T): T {
  if (beingMade.includes(name))
    throw new Error(`targets need each other in a circle: ${[...beingMade, name].join(' -> ')}.`);
  const known = made.get(name);
  if (known !== undefined) return known as T;
  beingMade.push(name);
  try {
    const result = make();
    made.set(name, result);
    return result;
  } finally {
    beingMade.pop();
  }
}
