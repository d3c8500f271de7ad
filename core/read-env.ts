import { type At, describe, fieldOf, isJsonObject, isStorable, quote, refuse, utf8Length } from './plan-reading.ts';

/** Environment entries with what they add up to. */
export interface Env {
  readonly values: Readonly<Record<string, string>>;
  readonly entries: number;
  readonly bytes: number;
}

export const emptyEnv: Env = { values: {}, entries: 0, bytes: 0 };

/** The `env` of one object; empty when absent or refused. */
export function readEnv(at: At): Env {
  const raw = fieldOf(at.fields, 'env');
  if (raw === null) return emptyEnv;
  if (!isJsonObject(raw)) {
    refuse(at, 'invalid_ir', `has ${describe(raw)} as env; it must be an object of strings.`);
    return emptyEnv;
  }
  const names = Object.keys(raw);
  let bytes = 0;
  for (const name of names) {
    const value = raw[name];
    if (!checkEntry(at, name, value)) return emptyEnv;
    bytes += entryBytes(name, value);
  }
  const env = { values: raw as Readonly<Record<string, string>>, entries: names.length, bytes };
  return checkSize(at, env) ? env : emptyEnv;
}

/** `base` overlaid by `top`, whose size is checked as that of one step. */
export function mergeEnv(at: At, base: Env, top: Env): Env {
  if (top.entries === 0) return base;
  if (base.entries === 0) return top;
  const merged = { entries: base.entries + top.entries, bytes: base.bytes + top.bytes };
  // Names on both sides count twice here, which only matters next to the limit.
  if (!checkSize(at, merged)) return emptyEnv;
  return { values: { ...base.values, ...top.values }, entries: merged.entries, bytes: merged.bytes };
}

function checkEntry(at: At, name: string, value: unknown): value is string {
  const { envEntryBytes } = at.reading.limits;
  if (name === '' || name.includes('=') || !isStorable(name)) {
    refuse(at, 'invalid_ir', `has the env name ${quote(name)}; a name is not empty and holds neither "=" nor NUL.`);
  } else if (typeof value !== 'string') {
    refuse(at, 'invalid_ir', `has ${describe(value)} as env ${quote(name)}; write it as a string.`);
  } else if (!isStorable(value)) {
    refuse(at, 'invalid_ir', `has a NUL or half a character in env ${quote(name)}; take it out.`);
  } else if (entryBytes(name, value) > envEntryBytes) {
    refuse(at, 'too_large', `has more than ${envEntryBytes} bytes in env ${quote(name)}; put them in a file.`);
  } else {
    return true;
  }
  return false;
}

function checkSize(at: At, { entries, bytes }: { readonly entries: number; readonly bytes: number }): boolean {
  const { envEntries, envBytes } = at.reading.limits;
  if (entries <= envEntries && bytes <= envBytes) return true;
  refuse(
    at,
    'too_large',
    `has ${entries} env entries of ${bytes} bytes; at most ${envEntries} of ${envBytes} are allowed.`,
  );
  return false;
}

function entryBytes(name: string, value: string): number {
  return utf8Length(name) + utf8Length(value) + 1;
}
