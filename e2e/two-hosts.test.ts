import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { gvisorProblem } from '../host/test/gvisor-test-driver.ts';
import { testKitsDir } from '../host/test/test-kit.ts';
import { ir } from './builds.ts';
import { type Host, type Rig, startRig, type Up } from './rig.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const withoutMemory = await gvisorProblem();
/** A host has room for one job at a time. */
const small = { CAISSON_HOST_MEMORY_GIB: '1', CAISSON_JOB_MEMORY_MIB: '1024' };
const broughtLine = 'the disk is brought to another one';
const forks = ['one', 'two'];

interface Hosts {
  readonly rig: Rig;
  readonly up: Up;
  readonly hosts: readonly Host[];
}

async function twoHosts(env: Readonly<Record<string, string>>): Promise<Hosts> {
  const rig = await startRig({ ...small, ...env });
  const hosts = [await rig.host(), await rig.host({ isApart: true })];
  const up = await rig.up(hosts.flatMap(({ socket }) => ['--host', socket]));
  return { rig, up, hosts };
}

/** Runs a build whose forks each take as long as a disk's way needs; returns what each fork said, and what is in its log besides. */
async function forksOf({ builds }: Up, pipelineIr: string): Promise<Record<string, string>> {
  const number = await builds.create({ pipeline_ir: pipelineIr });
  const { build } = await builds.ended(number, 110_000);
  const logs = await Promise.all(forks.map(async (key) => [key, await builds.log(number, key)] as const));
  expect(build.state, JSON.stringify(logs)).toBe('passed');
  return Object.fromEntries(logs);
}

/** What overlayfs knows of a disk, and a fork of a fork. */
const diskIr = ir({
  base: ['rm -r /usr/share/doc; mkdir /usr/share/doc; echo made > /made; ln -s made /link; chmod 4755 /made'],
  grown: ['echo grown > /grown', { buildsIn: 'base' }],
  ...Object.fromEntries(
    forks.map((key) => [
      key,
      ['cat /link /grown; stat -c %a /made; ls -A /usr/share/doc | wc -l; sleep 8', { buildsIn: 'grown' }],
    ]),
  ),
});

describe('two hosts with room for a job each', () => {
  let all: Hosts;
  beforeAll(async () => {
    all = await twoHosts({ CAISSON_DRIVER: 'container' });
  });
  afterAll(() => all.rig.end());

  test('one fork runs where its disk was made, the other one where the disk was brought', async () => {
    const logs = await forksOf(all.up, diskIr);
    for (const log of Object.values(logs)) expect(log).toContain('made\ngrown\n4755\n0\n');
    expect(Object.values(logs).filter((log) => log.includes(broughtLine))).toHaveLength(1);
  });
});

const memoryIr = JSON.stringify({
  version: '0',
  steps: [
    {
      ...{ type: 'command', key: 'base', snapshot: 'memory' },
      cmd: 'sleep 1000 & echo $! > /sleeper; cut -d" " -f22 /proc/$!/stat > /since; head -c 300000 /dev/urandom > /dev/shm/kept; sha256sum < /dev/shm/kept > /sum',
    },
    ...forks.map((key) => ({
      ...{ type: 'command', key, builds_in: 'base' },
      cmd: 'cut -d" " -f22 /proc/$(cat /sleeper)/stat | cmp - /since && sha256sum < /dev/shm/kept | cmp - /sum && echo goes on; sleep 8',
    })),
  ],
});

describe.skipIf(withoutMemory !== null)('two hosts that keep memory', () => {
  let all: Hosts;
  beforeAll(async () => {
    all = await twoHosts({ CAISSON_DRIVER: 'gvisor', CAISSON_KITS_DIR: testKitsDir });
  });
  afterAll(() => all.rig.end());

  test('what a step left running goes on where it was made and where it was brought', async () => {
    const logs = await forksOf(all.up, memoryIr);
    for (const log of Object.values(logs)) expect(log).toContain('goes on\n');
    expect(Object.values(logs).filter((log) => log.includes(broughtLine))).toHaveLength(1);
  });
});
