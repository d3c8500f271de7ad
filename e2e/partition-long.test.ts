import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunAssignment } from '@caisson/contracts/host-api';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ir } from './builds.ts';
import { type HostNetwork, openHostNetwork } from './host-network.ts';
import { reportMs } from './report.ts';
import { type Host, type Rig, startRig, type Up } from './rig.ts';

// Three hosts behind cables of their own; two of them fall silent for longer than a lease, each in its own way.
let rig: Rig;
let networks: readonly HostNetwork[];
let hosts: readonly Host[];
let up: Up;
beforeAll(async () => {
  rig = await startRig();
  networks = [await openHostNetwork(), await openHostNetwork(), await openHostNetwork()];
  hosts = await Promise.all(networks.map((network) => rig.host({ network })));
  up = await rig.up(hosts.flatMap(({ socket }) => ['--host', socket]));
});
afterAll(async () => {
  await rig.end();
  for (const network of networks) await network.end();
});

/** Every line says which attempt wrote it. */
function linesFor(seconds: number): string {
  return `id=$(cat /proc/sys/kernel/random/uuid); for i in $(seq 1 ${seconds * 10}); do echo "$id line $i"; sleep 0.1; done`;
}

test('the jobs of hosts that fall silent for longer than a lease run elsewhere, and what comes back is fenced', async () => {
  const [longText, shortText] = [linesFor(300), linesFor(5)];
  const [long, short] = [await start(longText), await start(shortText)];
  const [ofLong, ofShort] = [await hostOf(longText), await hostOf(shortText)];
  expect(ofLong).not.toBe(ofShort);

  const cutMs = performance.now();
  await networks[ofLong]?.packets({ toHost: 'drop', fromHost: 'drop' });
  // It hears everything, and nobody hears it.
  await networks[ofShort]?.packets({ fromHost: 'drop' });
  await up.builds.logged(long, 'job', 'was lost; trying again');
  const { build } = await up.builds.ended(short);
  expect(build.state).toBe('passed');
  reportMs('cut until the job of five seconds has run elsewhere', cutMs);

  for (const network of networks) await network.packets({});
  // One still ran there and is ended; the other had ended there, and nobody wants to know.
  for (const index of [ofLong, ofShort]) await expect.poll(() => left(index), { timeout: 20_000 }).toEqual([]);
  reportMs('cut until nothing of them is left where they were', cutMs);
  expect(await up.builds.show(short)).toEqual(build);
  expect((await up.builds.show(long)).state).toBe('running');
  await up.builds.cancel(long);
  expect((await up.builds.ended(long)).build.state).toBe('canceled');
  expect(expectTwoAttempts(await up.builds.log(short, 'job'))).toBe(50);
  expectTwoAttempts(await up.builds.log(long, 'job'));
});

async function start(command: string): Promise<number> {
  const number = await up.builds.create({ pipeline_ir: ir({ job: [command] }) });
  await up.builds.logged(number, 'job', 'line 10\n');
  return number;
}

async function hostOf(command: string): Promise<number> {
  const commands = await Promise.all(hosts.map(runsOn));
  return commands.findIndex((all) => all.includes(command));
}

async function runsOn({ dataDir }: Host): Promise<readonly string[]> {
  const runsDir = join(dataDir, 'host', 'runs');
  const assignments = (await readdir(runsDir)).map((leaseId) =>
    readFile(join(runsDir, leaseId, 'assignment.json'), 'utf8'),
  );
  return (await Promise.all(assignments)).map((text) => {
    const { work } = JSON.parse(text) as RunAssignment;
    return work.kind === 'shell' ? work.text : work.kind;
  });
}

/** Runs and capsules of a host. */
async function left(index: number): Promise<readonly string[]> {
  const { dataDir = '' } = hosts[index] ?? {};
  const names = ['runs', 'capsules'].map((name) => readdir(join(dataDir, 'host', name)));
  return (await Promise.all(names)).flat();
}

/** Some lines of a first attempt, the word that it was lost, then lines of a second one only, none missing. Returns how many. */
function expectTwoAttempts(log: string): number {
  const [first = '', second = '', ...others] = log.split('[caisson] attempt 1 of 3 was lost; trying again\n');
  expect(others).toEqual([]);
  const counts = [first, second].map((text) => {
    const lines = text.trimEnd().split('\n');
    const [id] = (lines[0] ?? '').split(' ');
    expect(lines).toEqual(lines.map((_line, index) => `${id} line ${index + 1}`));
    return { id, count: lines.length };
  });
  expect(counts[0]?.id).not.toBe(counts[1]?.id);
  return counts[1]?.count ?? 0;
}
