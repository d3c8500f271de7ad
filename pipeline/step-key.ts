/** Lower-hex sha256 of the UTF-8 bytes of `text`. Comes in as an argument because this package touches no runtime. */
export type Sha256Hex = (text: string) => string;

export interface KeyedStep {
  /** The author's own key; it always wins. */
  readonly key: string | null;
  readonly label: string | null;
  readonly command: string;
  /** Index in the same list of the direct parent; null for a root, and where a fork stands between the step and its parent. */
  readonly parent: number | null;
}

/**
 * A label as a key: lower case, `:emoji:` markers dropped, every run of other characters one `-`, none at the ends. Empty when
 * nothing is left.
 */
export function slug(label: string): string {
  const plain = label.toLowerCase().replace(/:[a-z0-9_+-]+:/g, '');
  return plain.replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');
}

/**
 * Keys of the command steps of one pipeline, in their emitted order (waits left out, parents before children): the explicit key, else
 * the label's slug where no other label or explicit key has it, else a hash of parent key, command and position.
 */
export function stepKeys(steps: readonly KeyedStep[], sha256Hex: Sha256Hex): readonly string[] {
  const claims = countClaims(steps);
  const keys: string[] = [];
  for (const [position, step] of steps.entries()) {
    const parentKey = step.parent === null ? '' : (keys[step.parent] ?? '');
    keys.push(
      step.key ?? uniqueSlug(step, claims) ?? hashKey({ parentKey, command: step.command, position }, sha256Hex),
    );
  }
  return keys;
}

/** The key of a step that has neither a key nor a label of its own: 12 hex digits. `position` counts command steps from 0. */
export function hashKey(
  step: { readonly parentKey: string; readonly command: string; readonly position: number },
  sha256Hex: Sha256Hex,
): string {
  return sha256Hex(`${step.parentKey}\0${step.command}\0${step.position}`).slice(0, 12);
}

/** How often each slug is wanted; an explicit key counts beside every label, so it is never given to a second step. */
function countClaims(steps: readonly KeyedStep[]): ReadonlyMap<string, number> {
  const claims = new Map<string, number>();
  const claim = (name: string): void => {
    claims.set(name, (claims.get(name) ?? 0) + 1);
  };
  for (const { key, label } of steps) {
    if (label !== null) claim(slug(label));
    if (key !== null) claim(key);
  }
  return claims;
}

function uniqueSlug(step: KeyedStep, claims: ReadonlyMap<string, number>): string | null {
  if (step.label === null) return null;
  const name = slug(step.label);
  return name !== '' && claims.get(name) === 1 ? name : null;
}
