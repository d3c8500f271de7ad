import type { CachePolicy } from './cache-key.ts';
import { type Duration, parseDuration } from './duration.ts';

/** Names of environment variables whose values are part of the cache key. */
export type EnvKeys = readonly string[] | { readonly envKeys?: readonly string[] };

/** The result stays good until the command or one of `envKeys` changes. */
export function forever(envKeys: EnvKeys = []): CachePolicy {
  return { policy: 'forever', env_keys: readEnvKeys(envKeys, 'forever()') };
}

/** The result stays good within a window of this length. Windows are aligned to the epoch, so the first one may be shorter. */
export function ttl(duration: Duration, envKeys: EnvKeys = []): CachePolicy {
  return {
    policy: 'ttl',
    duration_seconds: parseDuration(duration, 'ttl()'),
    env_keys: readEnvKeys(envKeys, 'ttl()'),
  };
}

/** The result stays good while these files, directories or globs, relative to the repository's root, keep their content. */
export function onChange(...paths: readonly (string | readonly string[])[]): CachePolicy {
  const flat = paths.flat();
  if (flat.length === 0) throw new Error('onChange(): name at least one path, such as onChange("package-lock.json").');
  for (const path of flat) checkPath(path);
  return { policy: 'on_change', paths: flat };
}

/** The result stays good while every one of `policies` says so. */
export function compose(...policies: readonly CachePolicy[]): CachePolicy {
  if (policies.length === 0) throw new Error('compose(): give at least one cache policy.');
  for (const policy of policies) checkCachePolicy(policy, 'compose()');
  return { policy: 'compose', sub_policies: policies };
}

/** Throws with `what` in front unless `policy` was made by one of the functions above. */
export function checkCachePolicy(policy: unknown, what: string): void {
  const known = ['none', 'forever', 'ttl', 'on_change', 'compose'];
  const name = typeof policy === 'object' && policy !== null && 'policy' in policy ? policy.policy : undefined;
  if (typeof name !== 'string' || !known.includes(name)) {
    throw new Error(`${what}: the cache policy must come from forever(), ttl(), onChange() or compose().`);
  }
}

function readEnvKeys(given: EnvKeys, what: string): readonly string[] {
  const keys = 'envKeys' in given ? (given.envKeys ?? []) : given;
  if (!Array.isArray(keys))
    throw new Error(`${what}: envKeys is a list of names, such as { envKeys: ["NODE_VERSION"] }.`);
  for (const key of keys) {
    if (typeof key !== 'string' || !/^[A-Za-z_]\w*$/.test(key)) {
      throw new Error(`${what}: ${JSON.stringify(key)} is not the name of an environment variable.`);
    }
  }
  return [...keys];
}

function checkPath(path: unknown): void {
  if (typeof path !== 'string' || path === '') throw new Error('onChange(): every path is a non-empty string.');
  if (path.startsWith('/') || path.split('/').includes('..')) {
    throw new Error(
      `onChange(): ${JSON.stringify(path)} must be relative to the repository's root and stay inside it.`,
    );
  }
}
