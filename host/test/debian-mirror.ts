import { lookup } from 'node:dns/promises';
import { debianSourceLines } from '../image-apt-sources.ts';

/** Where this machine gets Debian from over HTTP; null when that has no address here. */
export async function debianMirror(): Promise<URL | null> {
  const lines = await debianSourceLines('/etc/apt', 'bookworm');
  const urls = lines.map((line) => new URL(line.split(' ')[1] ?? '')).filter(({ protocol }) => protocol === 'http:');
  const [first] = urls;
  if (first === undefined) return null;
  return lookup(first.hostname).then(
    () => first,
    () => null,
  );
}
