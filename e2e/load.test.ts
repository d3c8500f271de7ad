import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ir } from './builds.ts';
import { reportMs } from './report.ts';
import { type Rig, startRig, type Up } from './rig.ts';

let rig: Rig;
let up: Up;
beforeAll(async () => {
  rig = await startRig();
  up = await rig.up();
});
afterAll(() => rig.end());

test('ten builds of four jobs at once pass, each with a number of its own', async () => {
  const pipeline_ir = ir({
    root: ['echo root > /workspace/file'],
    left: ['cat /workspace/file; echo left >> /workspace/file', { buildsIn: 'root' }],
    right: ['cat /workspace/file; echo right >> /workspace/file', { buildsIn: 'root' }],
    leaf: ['cat /workspace/file', { buildsIn: 'left' }],
  });
  const startedMs = performance.now();
  const numbers = await Promise.all(Array.from({ length: 10 }, () => up.builds.create({ pipeline_ir })));
  expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 10 }, (_, index) => index + 1));
  const ends = await Promise.all(numbers.map((number) => up.builds.ended(number, 60_000)));
  reportMs('10 builds of 4 jobs', startedMs);
  expect(ends.map(({ build }) => build.state)).toEqual(numbers.map(() => 'passed'));
  const logs = await Promise.all(numbers.map((number) => up.builds.log(number, 'leaf', 'stdout')));
  expect(logs).toEqual(numbers.map(() => 'root\nleft\n'));
}, 90_000);

test('fifty megabytes of output reach a reader whole and in order, and the server does not grow', async () => {
  const sizeBytes = 50_000_000;
  const number = await up.builds.create({ pipeline_ir: ir({ a: [`seq 1 9999999 | head -c ${sizeBytes}`] }) });
  const startedMs = performance.now();
  const before = await residentMib(up.pid);
  let most = before;
  const watching = setInterval(async () => {
    most = Math.max(most, await residentMib(up.pid));
  }, 100);
  const hash = createHash('sha256');
  let size = 0;
  for await (const { content } of up.builds.follow(number, 'a')) {
    hash.update(content);
    size += content.length;
  }
  clearInterval(watching);
  reportMs(`50 MB of output (server from ${before} to at most ${most} MiB)`, startedMs);
  expect((await up.builds.ended(number)).build.state).toBe('passed');
  expect(size).toBe(sizeBytes);
  expect(hash.digest('hex')).toBe(hashOfNumbers(sizeBytes));
  expect(most - before).toBeLessThan(400);
}, 90_000);

test('two streams in quick turns lose nothing', async () => {
  const count = 20_000;
  const number = await up.builds.create({
    pipeline_ir: ir({ a: [`for i in $(seq ${count}); do echo "out $i"; echo "err $i" >&2; done`] }),
  });
  expect((await up.builds.ended(number, 60_000)).build.state).toBe('passed');
  for (const [stream, word] of [
    ['stdout', 'out'],
    ['stderr', 'err'],
  ] as const) {
    const lines = (await up.builds.log(number, 'a', stream)).trimEnd().split('\n');
    expect(lines).toEqual(Array.from({ length: count }, (_, index) => `${word} ${index + 1}`));
  }
}, 90_000);

test('half lines, carriage returns and bytes that are no text arrive before the end of the line', async () => {
  const script = String.raw`printf 'working 10%%\r'; sleep 1; printf 'working 20%%\r'; sleep 1; printf 'bad \377 byte'; sleep 1; echo; echo end`;
  const number = await up.builds.create({ pipeline_ir: ir({ a: [script] }) });
  await up.builds.logged(number, 'a', 'working 10%\r');
  expect((await up.builds.jobs(number)).a?.state).toBe('running');
  await up.builds.logged(number, 'a', 'bad \ufffd byte');
  expect((await up.builds.jobs(number)).a?.state).toBe('running');
  expect((await up.builds.ended(number)).build.state).toBe('passed');
  expect(await up.builds.log(number, 'a')).toBe('working 10%\rworking 20%\rbad \ufffd byte\nend\n');
});

async function residentMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024);
}

function hashOfNumbers(sizeBytes: number): string {
  const hash = createHash('sha256');
  let size = 0;
  for (let first = 1; size < sizeBytes; first += 10_000) {
    const lines = Array.from({ length: 10_000 }, (_, index) => `${first + index}\n`).join('');
    const part = lines.slice(0, sizeBytes - size);
    hash.update(part);
    size += part.length;
  }
  return hash.digest('hex');
}
