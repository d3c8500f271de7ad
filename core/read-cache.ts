import {
  type At,
  describe,
  fieldOf,
  isJsonObject,
  isStorable,
  type JsonObject,
  quote,
  refuse,
} from './plan-reading.ts';

interface Part {
  readonly cache: JsonObject;
  readonly depth: number;
}

/** Checks the whole `cache` of a step and returns its resolved key; null when it has none or is refused. */
export function readCacheKey(at: At): string | null {
  const cache = fieldOf(at.fields, 'cache');
  if (cache === null) return null;
  if (!isJsonObject(cache)) {
    refuse(at, 'invalid_ir', `has ${describe(cache)} as cache; it must be an object with a policy.`);
    return null;
  }
  const budget = { values: at.reading.limits.values };
  const parts: Part[] = [{ cache, depth: 1 }];
  for (let part = parts.pop(); part !== undefined; part = parts.pop()) {
    const fault = faultOf(part, parts, budget);
    if (fault !== null) refuse(at, 'invalid_ir', fault);
    if (part.depth > at.reading.limits.depth)
      refuse(at, 'too_large', 'has cache policies nested too deep; flatten them.');
    if (budget.values < 0) refuse(at, 'too_large', 'has too many values in its cache; name fewer paths.');
    if (at.reading.rejection !== null) return null;
  }
  return readKey(at, cache);
}

function readKey(at: At, cache: JsonObject): string | null {
  const key = fieldOf(cache, 'key');
  if (key === null) return null;
  if (typeof key === 'string' && /^[0-9a-f]{64}$/.test(key)) return key;
  refuse(at, 'invalid_ir', 'has a cache.key that is not 64 lower-case hex digits; render the pipeline again.');
  return null;
}

function faultOf({ cache, depth }: Part, parts: Part[], budget: { values: number }): string | null {
  const policy = fieldOf(cache, 'policy');
  switch (policy) {
    case 'none':
      return null;
    case 'forever':
      return stringsFault(cache, 'env_keys', budget);
    case 'ttl': {
      const seconds = fieldOf(cache, 'duration_seconds');
      const isDuration = Number.isSafeInteger(seconds) && Number(seconds) > 0;
      if (!isDuration) return 'has a ttl cache without duration_seconds as a whole number above 0.';
      return stringsFault(cache, 'env_keys', budget);
    }
    case 'on_change':
      if (fieldOf(cache, 'paths') === null)
        return 'has an on_change cache without paths; list the files it depends on.';
      return stringsFault(cache, 'paths', budget);
    case 'compose':
      return composeFault({ cache, depth }, parts, budget);
    default: {
      const what = typeof policy === 'string' ? quote(policy) : describe(policy);
      return `has ${what} as cache policy; it must be none, forever, ttl, on_change or compose.`;
    }
  }
}

function composeFault({ cache, depth }: Part, parts: Part[], budget: { values: number }): string | null {
  const subPolicies = fieldOf(cache, 'sub_policies');
  if (!Array.isArray(subPolicies)) return 'has a compose cache without sub_policies; give it an array of policies.';
  budget.values -= subPolicies.length;
  if (budget.values < 0) return null;
  for (const sub of subPolicies) {
    if (!isJsonObject(sub)) return `has ${describe(sub)} among its sub_policies; each must be an object with a policy.`;
    parts.push({ cache: sub, depth: depth + 1 });
  }
  return null;
}

function stringsFault(cache: JsonObject, name: string, budget: { values: number }): string | null {
  const list = fieldOf(cache, name);
  if (list === null) return null;
  if (!Array.isArray(list)) return `has ${describe(list)} as cache.${name}; it must be an array of strings.`;
  budget.values -= list.length;
  const isFine = budget.values < 0 || list.every((item) => typeof item === 'string' && isStorable(item));
  return isFine ? null : `has something else than a plain string in cache.${name}.`;
}
