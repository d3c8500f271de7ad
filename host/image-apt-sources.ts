import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** One Debian archive as apt knows it. */
interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
  readonly signedBy: string;
}

/**
 * Lines for mmdebstrap that say where this machine gets Debian from, rewritten to `suite`: the archive, its updates and its
 * security fixes. Archives of others are left out. Empty when the machine's apt names no Debian archive.
 */
export async function debianSourceLines(aptDir: string, suite: string): Promise<readonly string[]> {
  const lines = new Set<string>();
  for (const source of await readSources(aptDir)) {
    if (!isDebian(source)) continue;
    for (const own of source.suites) {
      const pocket = /^[a-z]+(-updates|-security)?$/.exec(own)?.[1];
      if (pocket !== undefined || debianSuites.has(own)) lines.add(`deb ${source.uri} ${suite}${pocket ?? ''} main`);
    }
  }
  return [...lines];
}

const debianSuites = new Set(['bookworm', 'trixie', 'forky', 'sid', 'stable', 'oldstable', 'testing', 'unstable']);

/** Others publish for Debian too, but below other paths, with components of their own or signed by keys of their own. */
function isDebian(source: AptSource): boolean {
  const isSignedByDebian = source.signedBy === '' || source.signedBy.includes('debian-archive');
  return isSignedByDebian && source.components.includes('main') && /\/debian(-security)?\/?$/.test(source.uri);
}

async function readSources(aptDir: string): Promise<readonly AptSource[]> {
  const parts = join(aptDir, 'sources.list.d');
  const names = (await readdir(parts).catch(() => [])).sort();
  const paths = [join(aptDir, 'sources.list'), ...names.map((name) => join(parts, name))];
  const sources: AptSource[] = [];
  for (const path of paths) {
    const text = await readFile(path, 'utf8').catch(() => '');
    if (path.endsWith('.list')) sources.push(...parseList(text));
    else if (path.endsWith('.sources')) sources.push(...parseStanzas(text));
  }
  return sources;
}

/** The one-line format: `deb [options] uri suite component…`. */
function parseList(text: string): readonly AptSource[] {
  const sources: AptSource[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+(\S+)([^#]*)/.exec(line);
    if (match === null) continue;
    const [, options = '', uri = '', suite = '', components = ''] = match;
    const signedBy = /signed-by=(\S+)/.exec(options)?.[1] ?? '';
    sources.push({ uri, suites: [suite], components: words(components), signedBy });
  }
  return sources;
}

/** The stanza format (deb822) of `.sources` files. */
function parseStanzas(text: string): readonly AptSource[] {
  const withoutComments = text.replace(/^#.*\n?/gm, '');
  return withoutComments.split(/\n\s*\n/).flatMap((stanza) => {
    const fields = new Map<string, string>();
    for (const match of stanza.matchAll(/^([A-Za-z-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm))
      fields.set((match[1] ?? '').toLowerCase(), match[2] ?? '');
    const field = (name: string) => fields.get(name) ?? '';
    if (!words(field('types')).includes('deb') || field('enabled').trim().toLowerCase() === 'no') return [];
    const rest = {
      suites: words(field('suites')),
      components: words(field('components')),
      signedBy: field('signed-by'),
    };
    return words(field('uris')).map((uri) => ({ uri, ...rest }));
  });
}

function words(text: string): readonly string[] {
  return text.split(/\s+/).filter((word) => word !== '');
}
