import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeAtomically } from './write-atomically.ts';

/** What is remembered of an image, under its name and (for pulled ones) under its digest. */
export interface ImageRecord {
  readonly digest: string;
  readonly layerId: string;
  readonly env: Readonly<Record<string, string>>;
  /** How a built image was built; a pulled one has none. */
  readonly recipeKey: string | null;
}

export interface ImageRecords {
  read(key: string): Promise<ImageRecord | null>;
  write(key: string, record: ImageRecord): Promise<void>;
  /** Lock file for what is done under this key. */
  lockPath(key: string): string;
}

/** One small file per name or digest in `<dataDir>/images`. */
export async function createImageRecords(dataDir: string): Promise<ImageRecords> {
  const dir = join(dataDir, 'images');
  await mkdir(dir, { recursive: true, mode: 0o700 });
  // Callers who ask for one image at the same time record the same key.
  let lastWrite: Promise<void> = Promise.resolve();
  const fileOf = (key: string) => join(dir, createHash('sha256').update(key).digest('hex').slice(0, 32));
  return {
    read: async (key) => {
      const text = await readFile(`${fileOf(key)}.json`, 'utf8').catch(() => null);
      return text === null ? null : parse(text);
    },
    write(key, record) {
      const write = () => writeAtomically(`${fileOf(key)}.json`, JSON.stringify({ key, ...record }));
      const written = lastWrite.then(write);
      lastWrite = written.catch(() => {});
      return written;
    },
    lockPath: (key) => `${fileOf(key)}.lock`,
  };
}

function parse(text: string): ImageRecord | null {
  try {
    const value = JSON.parse(text) as Partial<ImageRecord>;
    const isWhole = typeof value.digest === 'string' && typeof value.layerId === 'string' && value.env !== undefined;
    return isWhole ? (value as ImageRecord) : null;
  } catch {
    return null;
  }
}
