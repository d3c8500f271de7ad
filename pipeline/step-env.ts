/** A copy of `env`; throws with `what` in front when a name or value cannot be one. */
export function readEnv(env: unknown, what: string): Readonly<Record<string, string>> {
  if (typeof env !== 'object' || env === null || Array.isArray(env)) {
    throw new Error(`${what}: env is an object of strings, such as { NODE_ENV: "test" }.`);
  }
  for (const [name, value] of Object.entries(env)) {
    if (name === '' || name.includes('=') || name.includes('\0')) {
      throw new Error(`${what}: ${JSON.stringify(name)} is not the name of an environment variable.`);
    }
    if (typeof value !== 'string') {
      throw new Error(
        `${what}: env ${name} is ${value === null ? 'null' : typeof value}. Write it as a string or leave it out.`,
      );
    }
  }
  return { ...env };
}
