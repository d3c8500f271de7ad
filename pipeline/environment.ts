/**
 * The value of an environment variable while the pipeline is rendered, or `fallback`. Throws when it is not set and there is no
 * fallback.
 */
export function env(name: string, fallback?: string): string {
  const runtime = globalThis as { readonly process?: { readonly env?: Readonly<Record<string, string | undefined>> } };
  const value = runtime.process?.env?.[name] ?? fallback;
  if (value === undefined)
    throw new Error(`env(${JSON.stringify(name)}) is not set. Set it or give a default: env("${name}", "...").`);
  return value;
}
