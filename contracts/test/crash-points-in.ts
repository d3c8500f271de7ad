import { readdir, readFile } from 'node:fs/promises';

/** Every crash point in those TypeScript files of a folder that are wanted, as often as it is there. */
export async function crashPointsIn(
  folderUrl: URL,
  isWanted: (fileName: string) => boolean = () => true,
): Promise<readonly string[]> {
  const files = (await readdir(folderUrl)).filter((name) => name.endsWith('.ts') && isWanted(name));
  const texts = await Promise.all(files.map((name) => readFile(new URL(name, folderUrl), 'utf8')));
  return texts.flatMap((text) => [...text.matchAll(/crashPoint\('([^']+)'\)/g)].map(([, name]) => name ?? ''));
}
