import type { Sha256Hex } from './step-key.ts';

/** When the disk a step leaves behind may stand in for running it again. The same shape travels as `cache` in the document. */
export type CachePolicy =
  | { readonly policy: 'none' }
  | { readonly policy: 'forever'; readonly env_keys?: readonly string[] }
  | { readonly policy: 'ttl'; readonly duration_seconds: number; readonly env_keys?: readonly string[] }
  | { readonly policy: 'on_change'; readonly paths: readonly string[] }
  | { readonly policy: 'compose'; readonly sub_policies: readonly CachePolicy[] };

/** What a resolution depends on besides the policy. */
export interface CacheInputs {
  readonly command: string;
  /** Environment of the render; a name that is not in it counts as empty. */
  readonly env: Readonly<Record<string, string>>;
  /** Seconds since the epoch. Buckets of a ttl are aligned to it. */
  readonly nowSeconds: number;
  /** Files and directories behind the paths of one `on_change`, globs expanded, what is missing left out. Any order. */
  readonly hashPaths: (paths: readonly string[]) => readonly PathHash[];
  readonly sha256Hex: Sha256Hex;
}

export interface PathHash {
  readonly path: string;
  /** Lower-hex sha256: of a file's bytes; of a directory's sorted files as relative path, NUL, bytes, NUL. */
  readonly hash: string;
}

export interface CacheKeyParts {
  readonly organization: string;
  readonly pipeline: string;
  readonly stepKey: string;
  /** The step's image, empty when it has none: part of the key in the graph form. Null leaves it out, as the flat form does. */
  readonly image: string | null;
  /** Cache key of the step whose disk this one starts from; null at a root. */
  readonly parentKey: string | null;
  /** From `resolveCache`. */
  readonly resolution: string;
}

/** The part of a cache key that comes from the policy; null when the step is not cached. */
export function resolveCache(policy: CachePolicy, inputs: CacheInputs): string | null {
  switch (policy.policy) {
    case 'none':
      return null;
    case 'forever':
      return `forever-${hashCommand(policy.env_keys ?? [], inputs)}`;
    case 'ttl': {
      const bucket = Math.floor(inputs.nowSeconds / policy.duration_seconds);
      return `ttl-${bucket}-${hashCommand(policy.env_keys ?? [], inputs)}`;
    }
    case 'on_change':
      return `sha-${inputs.sha256Hex(joinHashes(inputs.hashPaths(policy.paths)))}`;
    case 'compose': {
      const parts = policy.sub_policies.map((part) => resolveCache(part, inputs) ?? 'none');
      return `compose-${inputs.sha256Hex(parts.join(''))}`;
    }
  }
}

/** The key under which a step's disk is found again: 64 hex digits. */
export function cacheKey(parts: CacheKeyParts, sha256Hex: Sha256Hex): string {
  const { organization, pipeline, stepKey, image, parentKey, resolution } = parts;
  const fields = [
    organization,
    pipeline,
    stepKey,
    ...(image === null ? [] : [image]),
    parentKey ?? 'scratch',
    resolution,
  ];
  return sha256Hex(fields.join('\0'));
}

function hashCommand(envKeys: readonly string[], { command, env, sha256Hex }: CacheInputs): string {
  const pairs = [...envKeys].sort(byCodePoint).map((name) => `${name}=${Object.hasOwn(env, name) ? env[name] : ''}\0`);
  return sha256Hex(`${command}\0${pairs.join('')}`);
}

function joinHashes(paths: readonly PathHash[]): string {
  const sorted = [...paths].sort((a, b) => byCodePoint(a.path, b.path));
  return sorted.map(({ hash }) => `${hash}\0`).join('');
}

/** The order other languages sort strings in: by code point, where JavaScript's own goes by UTF-16 unit. */
function byCodePoint(a: string, b: string): number {
  const left = Array.from(a);
  const right = Array.from(b);
  for (let i = 0; i < left.length && i < right.length; i++) {
    const difference = (left[i]?.codePointAt(0) ?? 0) - (right[i]?.codePointAt(0) ?? 0);
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}
