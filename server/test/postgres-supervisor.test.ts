import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { checkDatabase } from '../postgres-check.ts';
import { startPostgres } from '../postgres-supervisor.ts';

const childPath = fileURLToPath(new URL('./postgres-supervisor-child.ts', import.meta.url));

// Closed to everybody else, as directories for temporary files are.
let home = '';
let seedDir = '';
let lines: string[] = [];
let onWarning = (_fields: object) => {};
const log = {
  info: (fields: object) => lines.push(JSON.stringify(fields)),
  warn: (fields: object) => {
    lines.push(JSON.stringify(fields));
    onWarning(fields);
  },
};

beforeAll(async () => {
  seedDir = await mkdtemp(join(tmpdir(), 'caisson-postgres-seed-'));
  await (await startPostgres({ dataDir: seedDir, log })).stop();
});

afterAll(async () => {
  await rm(seedDir, { recursive: true, force: true });
});

/** A directory with a database that was started and stopped once; copying one is much faster than making it. */
function usedDir(): string {
  const dataDir = join(home, 'postgres');
  execFileSync('cp', ['-a', seedDir, dataDir]);
  return dataDir;
}

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'caisson-postgres-'));
  lines = [];
  onWarning = () => {};
});

afterEach(async () => {
  await rm(home, { recursive: true, force: true });
});

async function query(connectionString: string, sql: string) {
  const client = new pg.Client({ connectionString });
  // A server that is killed ends the connection too.
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/** Answers as soon as the database does: for the moments after its server was killed. */
async function queryWhenBack(connectionString: string, sql: string): Promise<object[]> {
  for (;;) {
    try {
      return await query(connectionString, sql);
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

async function startChild(dataDir: string) {
  const child = spawn(process.execPath, [childPath, dataDir], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface({ input: child.stdout }), 'line');
  const { pid, connectionString } = JSON.parse(line);
  return { child, serverPid: Number(pid), connectionString: String(connectionString) };
}

test('a cold start makes the database, a warm one finds what was written', async () => {
  const dataDir = join(home, 'postgres');
  const cold = await startPostgres({ dataDir, log });
  await query(cold.connectionString, 'create table kept as select 42 as answer');
  await cold.stop();
  expect(await cold.exited).toBe('stopped');
  expect(existsSync(`/proc/${cold.pid()}`)).toBe(false);
  const warm = await startPostgres({ dataDir, log });
  try {
    expect(await query(warm.connectionString, 'select answer from kept')).toEqual([{ answer: 42 }]);
    expect((await checkDatabase(warm.connectionString)).version).toMatch(/^18\./);
  } finally {
    await warm.stop();
  }
});

test('what an earlier start found out is found out again when it no longer holds', async () => {
  const dataDir = usedDir();
  const path = join(dataDir, 'proven.json');
  const { circumstances, proven } = JSON.parse(await readFile(path, 'utf8'));
  const binaries = { ...proven.binaries, postgres: '/nowhere/postgres' };
  await writeFile(
    path,
    JSON.stringify({ circumstances: [dataDir, ...circumstances.slice(1)], proven: { ...proven, binaries } }),
  );
  await (await startPostgres({ dataDir, log })).stop();
  expect(JSON.parse(await readFile(path, 'utf8')).proven.binaries).toEqual(proven.binaries);
});

test('the server listens on no tcp port and flushes what it commits', async () => {
  const postgres = await startPostgres({ dataDir: usedDir(), log });
  try {
    const sql = "select current_setting('listen_addresses') as addresses, current_setting('fsync') as fsync";
    expect(await query(postgres.connectionString, sql)).toEqual([{ addresses: '', fsync: 'on' }]);
  } finally {
    await postgres.stop();
  }
});

test('a killed server comes back with everything that was committed', async () => {
  const postgres = await startPostgres({ dataDir: usedDir(), log });
  try {
    await query(postgres.connectionString, 'create table kept as select 42 as answer');
    const killed = postgres.pid();
    process.kill(killed, 'SIGKILL');
    expect(await queryWhenBack(postgres.connectionString, 'select answer from kept')).toEqual([{ answer: 42 }]);
    expect(postgres.pid()).not.toBe(killed);
  } finally {
    await postgres.stop();
  }
});

test('a server that is killed again and again keeps coming back, and stopping in between ends it', async () => {
  const postgres = await startPostgres({ dataDir: usedDir(), log });
  for (let round = 0; round < 3; round += 1) {
    const warned = new Promise((resolve) => {
      onWarning = (fields) => 'reason' in fields && resolve(fields);
    });
    process.kill(postgres.pid(), 'SIGKILL');
    await warned;
    if (round < 2) await queryWhenBack(postgres.connectionString, 'select 1');
  }
  await postgres.stop();
  expect(await postgres.exited).toBe('stopped');
  await expect(query(postgres.connectionString, 'select 1')).rejects.toThrow();
});

test('a killed supervisor takes its server along, and the next one starts at once', async () => {
  const dataDir = usedDir();
  const first = await startChild(dataDir);
  await query(first.connectionString, 'create table kept as select 42 as answer');
  first.child.kill('SIGKILL');
  const postgres = await startPostgres({ dataDir, log });
  try {
    expect(existsSync(`/proc/${first.serverPid}/exe`)).toBe(false);
    expect(await query(postgres.connectionString, 'select answer from kept')).toEqual([{ answer: 42 }]);
  } finally {
    await postgres.stop();
  }
});

test('a supervisor killed together with its server leaves a lock file that is not believed', async () => {
  const dataDir = usedDir();
  const first = await startChild(dataDir);
  first.child.kill('SIGKILL');
  process.kill(first.serverPid, 'SIGKILL');
  await once(first.child, 'exit');
  const lockPath = join(dataDir, 'cluster', 'postmaster.pid');
  // The pid of the dead server now belongs to another program.
  const rest = (await readFile(lockPath, 'utf8')).split('\n').slice(1);
  await writeFile(lockPath, [process.pid, ...rest].join('\n'));
  const postgres = await startPostgres({ dataDir, log });
  await postgres.stop();
});

test('a second supervisor is refused with the pid of the first', async () => {
  const dataDir = usedDir();
  const first = await startChild(dataDir);
  try {
    await expect(startPostgres({ dataDir, log })).rejects.toMatchObject({
      code: 'database_unavailable',
      message: expect.stringContaining(`process ${first.child.pid} already runs the database`),
    });
  } finally {
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    // The server ends by itself; starting and stopping waits for that.
    await (await startPostgres({ dataDir, log })).stop();
  }
});

test('two that start at once on a new directory: one has it, the other is refused', async () => {
  const dataDir = join(home, 'postgres');
  const both = await Promise.allSettled([startPostgres({ dataDir, log }), startPostgres({ dataDir, log })]);
  expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  for (const one of both) if (one.status === 'fulfilled') await one.value.stop();
});

test('a supervisor killed while it makes the database leaves nothing half made', async () => {
  const dataDir = join(home, 'postgres');
  const child = spawn(process.execPath, [childPath, dataDir], { stdio: 'ignore' });
  const unfinished = async () =>
    (await readdir(dataDir).catch(() => [])).some((name) => name.startsWith('unfinished-'));
  while (!(await unfinished())) await new Promise((resolve) => setTimeout(resolve, 10));
  child.kill('SIGKILL');
  await once(child, 'exit');
  const postgres = await startPostgres({ dataDir, log });
  await postgres.stop();
  expect((await readdir(dataDir)).sort()).toEqual(['cluster', 'proven.json', 'supervisor.lock']);
});

test('a directory that holds something else is refused and left alone', async () => {
  const dataDir = join(home, 'postgres');
  await mkdir(join(dataDir, 'cluster'), { recursive: true });
  await writeFile(join(dataDir, 'cluster', 'letter.txt'), 'dear');
  await expect(startPostgres({ dataDir, log })).rejects.toThrow('files that are not a PostgreSQL cluster');
  expect(await readdir(join(dataDir, 'cluster'))).toEqual(['letter.txt']);
});

test('a cluster of another major version is refused and left alone', async () => {
  const dataDir = join(home, 'postgres');
  await mkdir(join(dataDir, 'cluster'), { recursive: true });
  await writeFile(join(dataDir, 'cluster', 'PG_VERSION'), '15\n');
  await expect(startPostgres({ dataDir, log })).rejects.toThrow('a cluster of PostgreSQL 15, and this is 18');
});

test('a path too long for a socket is refused before anything is made', async () => {
  const dataDir = join(home, 'x'.repeat(100));
  await expect(startPostgres({ dataDir, log })).rejects.toThrow('too long for the path of a unix socket');
  expect(await readdir(home)).toEqual([]);
});

test('an aborted signal stops the database', async () => {
  const abort = new AbortController();
  const postgres = await startPostgres({ dataDir: usedDir(), log, signal: abort.signal });
  abort.abort();
  expect(await postgres.exited).toBe('stopped');
  expect(existsSync(`/proc/${postgres.pid()}`)).toBe(false);
});

test('a database that does not answer is named as the one of DATABASE_URL', async () => {
  await expect(checkDatabase('postgresql://127.0.0.1:1/none')).rejects.toMatchObject({
    code: 'database_unavailable',
    message: expect.stringContaining('DATABASE_URL'),
  });
});
