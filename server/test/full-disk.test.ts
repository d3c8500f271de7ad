import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { openSmallDisk, type SmallDisk } from '@caisson/contracts/test/small-disk';
import pg from 'pg';
import { pino } from 'pino';
import { expect, onTestFinished, test } from 'vitest';
import { openEffects } from '../engine/effects.ts';
import { startPostgres } from '../postgres-supervisor.ts';
import { migrate } from '../store/migrate.ts';
import { ciRig } from './ci-rig.ts';
import { chunkText, readEvents } from './event-reader.ts';
import { ir } from './ir.ts';
import { logTexts } from './log-texts.ts';
import { exited, type Script, scriptedHost } from './scripted-host.ts';

const lines = 200;
const chain = ir({ a: ['a'], b: ['b', 'a'], c: ['c', 'b'] });

const whole = Array.from({ length: lines }, (_, index) => lineOf(index + 1)).join('');

function lineOf(line: number): string {
  return `line ${line} ${'x'.repeat(2_000)}\n`;
}

const talk: Script = async ({ print }) => {
  for (let line = 1; line <= lines; line += 1) {
    print(lineOf(line));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return exited(0);
};

async function smallDisk(mebibytes: number): Promise<SmallDisk> {
  const disk = await openSmallDisk({ mebibytes });
  onTestFinished(() => disk.end());
  return disk;
}

async function openOnSmallDisk() {
  const disk = await smallDisk(256);
  const said: string[] = [];
  const hear = (fields: object) => void said.push(JSON.stringify(fields));
  const log = { info: hear, warn: hear };
  const postgres = await startPostgres({ dataDir: join(disk.directory, 'postgres'), log });
  onTestFinished(() => postgres.stop());
  const { connectionString } = postgres;
  await migrate(connectionString);
  await (await openEffects(connectionString, pino({ level: 'silent' }))).stop();
  const database = { connectionString, drop: async () => {} };
  const host = scriptedHost(talk);
  const rig = await ciRig({ hosts: [host], database });
  onTestFinished(() => rig.close());
  return { rig, disk, host, said };
}

test('a full disk of PostgreSQL is a 503 at the door and a pause for builds and log streams; with room all goes on by itself', async () => {
  const { rig, disk, host, said } = await openOnSmallDisk();
  const pipeline = await rig.pipeline();
  const path = `/api/v0/organizations/local/pipelines/${pipeline}/builds`;
  const first = await rig.build(pipeline, chain);
  const reader = await readEvents(await rig.logUrl(first.id, 'a'));
  await reader.next();
  await disk.fill();
  const numbers = [first.number];
  const refused = await until(async () => {
    const answer = await rig.create(pipeline, chain);
    if (answer.status === 201) numbers.push(answer.json.number);
    return answer.status === 201 ? null : answer;
  });
  const envelope = {
    code: 'database_unavailable',
    type: 'service_unavailable',
    message: expect.stringContaining('full'),
  };
  expect(refused).toMatchObject({ status: 503, json: { error: envelope } });

  await exhaustWal(rig.connectionString);
  await until(async () => said.some((line) => line.includes('PANIC')) || null);
  const gone = await until(async () => {
    const answer = await rig.call('GET', `${path}/1`);
    return answer.status === 200 ? null : answer;
  });
  expect(gone).toMatchObject({ status: 503, json: { error: { code: 'database_unavailable' } } });

  await disk.makeRoom();
  for (const number of numbers) {
    await until(async () => ((await rig.call('GET', `${path}/${number}`)).json?.state === 'passed' ? true : null));
  }
  expect(chunkText(await reader.rest())).toBe(whole);
  expect(await logTexts(rig.db)).toEqual(Array.from({ length: numbers.length * 3 }, () => whole));
  expect(host.taken).toHaveLength(numbers.length * 3);
}, 120_000);

/** Needs segment after segment, until the server ends itself for want of one. */
async function exhaustWal(connectionString: string): Promise<void> {
  const client = new pg.Client({ connectionString });
  client.on('error', () => {});
  await client.connect();
  await until(() =>
    client.query("select pg_logical_emit_message(false, 'test', repeat('x', 100000)), pg_switch_wal()").then(
      () => null,
      () => true,
    ),
  );
  await client.end().catch(() => {});
}

/** The first answer that is not null. */
async function until<T>(look: () => Promise<T | null>): Promise<T> {
  for (const deadlineMs = Date.now() + 60_000; Date.now() < deadlineMs; ) {
    const found = await look();
    if (found !== null) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('it does not come to that');
}

test('a source that does not fit is a 503 in the envelope, leaves no part of itself, and is taken with room', async () => {
  const disk = await smallDisk(4);
  const blobDir = join(disk.directory, 'blobs');
  const rig = await ciRig({ blobDir });
  onTestFinished(() => rig.close());
  await disk.fill();
  const upload = () =>
    rig.call('PUT', '/api/v0/organizations/local/sources', {
      body: Buffer.concat([gzipSync(''), randomBytes(200_000)]),
      headers: { 'content-type': 'application/gzip' },
    });
  const envelope = { code: 'disk_full', type: 'service_unavailable', message: expect.stringContaining('full') };
  expect(await upload()).toMatchObject({ status: 503, json: { error: envelope } });
  expect(await readdir(blobDir)).toEqual([]);
  expect((await rig.call('GET', '/api/v0/user')).status).toBe(200);
  await disk.makeRoom();
  const { status, json } = await upload();
  expect(status).toBeLessThan(300);
  expect(await readdir(blobDir)).toEqual([json.digest]);
});
