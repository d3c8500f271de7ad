import { fork } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { serveHostApi } from '@caisson/contracts/host-server';
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { migrate } from '../store/migrate.ts';
import { startPlane } from './crash-plane.ts';
import { emptyDatabase, freshDatabase, type TestDatabase } from './database.ts';
import { exited, scriptedHost } from './scripted-host.ts';
import { testDefaults } from './test-defaults.ts';

const ownDirectory = new URL('../migrations/', import.meta.url);
const next = '9001_next.sql';

let database: TestDatabase;
let client: pg.Client;
/** A version of its own: the migrations of this one, to which a test adds. */
let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'caisson-migrations-'));
  await cp(ownDirectory, directory, { recursive: true });
});
afterEach(async () => {
  await client.end();
  await database.drop();
  await rm(directory, { recursive: true });
});

async function open(fresh: Promise<TestDatabase>): Promise<void> {
  database = await fresh;
  client = new pg.Client({ connectionString: database.connectionString });
  await client.connect();
}

const upgrade = () => migrate(database.connectionString, pathToFileURL(`${directory}/`));

/** Every column, constraint and index, and what is said to be applied. */
async function shape(): Promise<unknown> {
  const { rows } = await client.query(`
    select 'column' as what, table_name || '.' || column_name || ' ' || data_type as name from information_schema.columns
    where table_schema = 'public'
    union all select 'constraint', conrelid::regclass || ' ' || pg_get_constraintdef(oid) from pg_constraint
    where connamespace = 'public'::regnamespace
    union all select 'index', indexdef from pg_indexes where schemaname = 'public'
    union all select 'applied', name from migrations
    order by 1, 2`);
  return rows;
}

test('a build that runs on tables of the first version goes on after the migrations', async () => {
  await open(emptyDatabase());
  const names = (await readdir(directory)).toSorted();
  for (const name of names.slice(1)) await rm(join(directory, name));
  expect(await upgrade()).toBe(true);
  await client.query(await readFile(new URL('running-build.sql', import.meta.url), 'utf8'));
  expect(await migrate(database.connectionString)).toBe(true);

  const go = Promise.withResolvers<void>();
  const host = scriptedHost(async ({ print }) => {
    print('before\n');
    await go.promise;
    print('after\n');
    return exited(0);
  }, '00000000-0000-7000-8000-000000000003');
  const lease = { leaseId: '00000000-0000-7000-8000-000000000032', fence: 2 };
  await host.startRun({
    ...{ ...lease, ...testDefaults, capsuleId: '00000000-0000-7000-8000-000000000022', sourceDigest: null, env: {} },
    work: { kind: 'shell', text: 'test' },
    base: { layerId: '00000000-0000-7000-8000-000000000031' },
    ...{ timeoutMs: 60_000, sealAs: lease.leaseId, egress: 'internet' },
  });
  const hostSocket = join(directory, 'host.sock');
  const served = await serveHostApi(host, { kind: 'socket', path: hostSocket });
  const { connectionString } = database;
  const blobDir = join(directory, 'blobs');
  const plane = await startPlane({ connectionString, hostSockets: [hostSocket], blobDir, crashAt: null });
  try {
    go.resolve();
    const state = async () => (await client.query('select status from builds')).rows[0]?.status;
    await expect.poll(state, { timeout: 20_000 }).toBe('passed');
    const { rows } = await client.query(`
      select step_key, status, attempt, string_agg(convert_from(content, 'UTF8'), '' order by seq) as log
      from jobs left join log_chunks on job_id = jobs.id group by jobs.id order by position`);
    const passed = { status: 'passed', attempt: 1 };
    expect(rows).toEqual([
      { step_key: 'install', ...passed, log: null },
      { step_key: 'test', ...passed, log: 'before\nafter\n' },
      { step_key: 'last', ...passed, log: 'before\nafter\n' },
    ]);
    expect(host.taken.map(({ work }) => work.kind === 'shell' && work.text)).toEqual(['test', 'last']);
  } finally {
    await plane.kill();
    await served.close();
  }
});

test('the tables are the same whether they were made at once or one version after the other', async () => {
  await open(emptyDatabase());
  const names = (await readdir(directory)).toSorted();
  for (const name of names.slice(1)) await rm(join(directory, name));
  await upgrade();
  expect(await migrate(database.connectionString)).toBe(true);
  expect(await migrate(database.connectionString)).toBe(false);
  const inSteps = await shape();
  await client.end();
  await database.drop();
  await open(freshDatabase());
  expect(await shape()).toEqual(inSteps);
});

test('a migration that fails half way leaves everything as it was, and goes through once it is right', async () => {
  await open(freshDatabase());
  const before = await shape();
  await writeFile(
    join(directory, next),
    'create table half (id int); alter table builds drop column env; select 1 / 0;',
  );
  await expect(upgrade()).rejects.toThrow(`migration ${next} failed`);
  expect(await shape()).toEqual(before);
  await writeFile(join(directory, next), 'create table whole (id int);');
  await upgrade();
  expect((await client.query(`select to_regclass('whole')::text as name`)).rows).toEqual([{ name: 'whole' }]);
});

test('a process killed in the middle of a migration leaves everything as it was, and the next start does it', async () => {
  await open(freshDatabase());
  const before = await shape();
  await writeFile(join(directory, next), 'create table half (id int); select pg_sleep(1.5);');
  const child = fork(new URL('migrate-child.ts', import.meta.url), [database.connectionString, directory]);
  const sleeps = `select count(*)::int as n from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()`;
  await expect.poll(async () => (await client.query(sleeps)).rows[0]?.n, { timeout: 20_000 }).toBe(1);
  child.kill('SIGKILL');
  await once(child, 'exit');
  await expect.poll(async () => (await client.query(sleeps)).rows[0]?.n, { timeout: 20_000 }).toBe(0);
  expect(await shape()).toEqual(before);
  await writeFile(join(directory, next), 'create table half (id int);');
  expect(await upgrade()).toBe(true);
});

test('several that start at once apply each migration once', async () => {
  await open(emptyDatabase());
  expect((await Promise.all(Array.from({ length: 5 }, upgrade))).filter(Boolean)).toHaveLength(1);
});

test('a version goes back to the one before when the newer one broke nothing, and is refused when it did', async () => {
  await open(freshDatabase());
  await writeFile(join(directory, next), 'alter table builds add column newer text;');
  await upgrade();
  expect(await migrate(database.connectionString)).toBe(false);
  expect(await upgrade()).toBe(false);
  await writeFile(join(directory, '9002_breaking.sql'), '-- breaking\nalter table builds drop column newer;');
  await upgrade();
  await expect(migrate(database.connectionString)).rejects.toMatchObject({ code: 'database_too_new' });
  expect(await upgrade()).toBe(false);
});
