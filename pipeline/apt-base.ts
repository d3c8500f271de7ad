import { ttl } from './cache-policy.ts';
import { type Step, sh } from './step.ts';

/** A root step that installs Debian packages, kept for a day. */
export function aptBase(
  packages: readonly string[],
  options: { readonly image?: string; readonly label?: string } = {},
): Step {
  if (packages.length === 0) throw new Error('aptBase(): name at least one package.');
  for (const name of packages) {
    if (!/^[a-z0-9][a-z0-9.+:=~_-]*$/i.test(name))
      throw new Error(`aptBase(): ${JSON.stringify(name)} is not a package name.`);
  }
  return sh(`apt-get update && apt-get install -y ${packages.join(' ')}`, {
    label: options.label ?? ':apt: base',
    image: options.image,
    cache: ttl(86_400),
  });
}
