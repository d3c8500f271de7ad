import { expect } from 'vitest';
import { type Rig, startRig, type Up } from './rig.ts';

/** A host has room for one job at a time. */
const small = { CAISSON_HOST_MEMORY_GIB: '1', CAISSON_JOB_MEMORY_MIB: '1024' };
const broughtLine = 'the disk is brought to another one';
/** Steps that start from one disk and take longer than a job waits for the host that has it. */
export const forks = ['one', 'two'];

/** A control plane with two hosts, each in a directory of its own. */
export interface TwoHosts {
  readonly rig: Rig;
  readonly up: Up;
}

export async function startTwoHosts(env: Readonly<Record<string, string>>): Promise<TwoHosts> {
  const rig = await startRig({ ...small, ...env });
  const hosts = [await rig.host(), await rig.host({ isApart: true })];
  const up = await rig.up(hosts.flatMap(({ socket }) => ['--host', socket]));
  return { rig, up };
}

/** Runs a build that has to pass, one of its forks where the disk was made, the other one where it was brought. Returns their logs. */
export async function runOnBoth({ up: { builds } }: TwoHosts, pipelineIr: string): Promise<readonly string[]> {
  const number = await builds.create({ pipeline_ir: pipelineIr });
  const { build } = await builds.ended(number, buildTimeoutMs);
  const logs = await Promise.all(forks.map((key) => builds.log(number, key)));
  expect(build.state, logs.join('\n')).toBe('passed');
  expect(logs.filter((log) => log.includes(broughtLine))).toHaveLength(1);
  return logs;
}

const buildTimeoutMs = 300_000;

/** A step that leaves a process running and something in memory, and forks that find both. */
export const memoryIr = JSON.stringify({
  version: '0',
  steps: [
    {
      ...{ type: 'command', key: 'base', snapshot: 'memory' },
      cmd: `sleep 1000 & echo $! > /sleeper; cut -d" " -f22 /proc/$!/stat > /since
head -c 300000 /dev/urandom > /dev/shm/kept; sha256sum < /dev/shm/kept > /sum`,
    },
    ...forks.map((key) => ({
      ...{ type: 'command', key, builds_in: 'base' },
      cmd: `cut -d" " -f22 /proc/$(cat /sleeper)/stat | cmp - /since &&
sha256sum < /dev/shm/kept | cmp - /sum && echo goes on && sleep 6`,
    })),
  ],
});
