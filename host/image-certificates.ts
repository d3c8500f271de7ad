import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Where Debian keeps the certificate authorities an administrator has added. */
const localCertificatesDir = '/usr/local/share/ca-certificates';

/** The authorities this machine trusts beyond the public ones; a build behind a company's proxy needs them inside capsules too. */
export interface LocalCertificates {
  readonly dir: string;
  readonly names: readonly string[];
  /** Changes with any of them. */
  readonly digest: string;
}

/** Reads the `.crt` files of `dir`; null when there are none. */
export async function readLocalCertificates(dir: string = localCertificatesDir): Promise<LocalCertificates | null> {
  const names = (await readdir(dir).catch(() => [])).filter((name) => /^[\w.-]+\.crt$/.test(name)).sort();
  if (names.length === 0) return null;
  const hash = createHash('sha256');
  for (const name of names) hash.update(`${name}\0`).update(await readFile(join(dir, name)));
  return { dir, names, digest: hash.digest('hex') };
}

/** Options that make mmdebstrap add them to an image that has the package ca-certificates. */
export function certificateHooks(certificates: LocalCertificates | null): readonly string[] {
  if (certificates === null) return [];
  const { dir, names } = certificates;
  const copies = names.map((name) => `cp '${join(dir, name)}' "$1${localCertificatesDir}/"`);
  const commands = [`mkdir -p "$1${localCertificatesDir}"`, ...copies, 'chroot "$1" update-ca-certificates'];
  return [`--customize-hook=${commands.join(' && ')}`];
}
