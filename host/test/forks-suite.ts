import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { removeTree } from '../layer-tree.ts';
import type { MachineDriver } from '../machine-driver.ts';
import { type HostRig, openHostRig } from './host-rig.ts';
import { expectNothingLeft } from './nothing-left.ts';

const passed = { outcome: 'exited', exitCode: 0, signal: null };
/** Goes on counting in the background when the command that started it has ended, and says much that somebody has to take. */
const count =
  'i=0; while :; do i=$((i+1)); echo $i > /count.new; mv /count.new /count; printf %5000s; sleep 0.05; done';
const start = `(${count}) & echo $! > /counter; until [ -e /count ]; do sleep 0.05; done`;
/** That it was never started again, and counts on here. */
const look = `kill -0 $(cat /counter) && a=$(cat /count) || exit 1
until [ $(cat /count) -gt $((a+20)) ]; do sleep 0.1; done
echo $(cat /counter) $NAME $(cat /proc/sys/kernel/hostname) $(head -c 8 /dev/urandom | od -An -tx1 | tr -d ' ')`;

/** What a host does with the memory of runs, whichever driver it has; `driverDir` is where that one has its capsules. */
export function describeForks(
  problem: string | null,
  open: (dataDir: string) => Promise<{ readonly driver: MachineDriver; readonly driverDir: string }>,
): void {
  describe.skipIf(problem !== null)('runs on a snapshot that holds memory', () => {
    let rig: HostRig;
    let dataDir: string;
    let driverDir: string;
    let fence = 1;
    beforeAll(async () => {
      dataDir = await mkdtemp(join(tmpdir(), 'caisson-test-'));
      const opened = await open(dataDir);
      driverDir = opened.driverDir;
      rig = await openHostRig(dataDir, { driver: opened.driver });
    });
    afterAll(async () => {
      await rig.end();
      await expectNothingLeft(driverDir);
      await removeTree(dataDir);
    });

    async function run(text: string, changes: Parameters<HostRig['assignment']>[1]) {
      fence += 1;
      const assignment = rig.assignment(text, { fence, ...changes });
      await rig.host.startRun(assignment);
      expect(await rig.ended(assignment.leaseId)).toEqual(passed);
      return rig.output(assignment.leaseId).trim();
    }

    it('find what it left running, each for itself, with a name, an environment and random numbers of their own', async () => {
      const memory = { snapshot: 'memory' } as const;
      const database = randomUUID();
      await run(start, { sealAs: database, ...memory });
      const base = { layerId: database, ...memory };
      const later = randomUUID();
      const said = await Promise.all([
        run(look, { base, env: { NAME: 'one' } }),
        run(`${look}\necho kept > /kept`, { base, env: { NAME: 'two' }, sealAs: later, ...memory }),
      ]);
      const [one = [], two = []] = said.map((text) => text.split(' '));
      expect([one[0], one[1], two[1]]).toEqual([two[0], 'one', 'two']);
      expect(one[2]).not.toBe(two[2]);
      expect(one[3]).not.toBe(two[3]);

      // A fork is a base like any other: for memory once more, or for its disk alone, where nothing runs.
      const third = await run(`cat /kept\n${look}`, { base: { layerId: later, ...memory }, env: { NAME: 'three' } });
      expect(third).toMatch(new RegExp(`^kept\n${one[0]} three `));
      const still = 'a=$(cat /count); sleep 1; [ $a = $(cat /count) ]';
      expect(await run(`${still} && cat /kept`, { base: { layerId: later } })).toBe('kept');

      for (const layerId of [later, database]) await rig.host.releaseLayer(layerId);
      expect(await readdir(join(dataDir, 'layers'))).toHaveLength(1);
    });

    it('are refused with the way out when what they start from holds no memory', async () => {
      const sealAs = randomUUID();
      expect(await rig.run('true', { sealAs })).toEqual(passed);
      expect(await rig.run('true', { base: { layerId: sealAs, snapshot: 'memory' } })).toMatchObject({
        ...{ outcome: 'failed', code: 'snapshot_missing' },
        message: expect.stringContaining('run the build again'),
      });
      await rig.host.releaseLayer(sealAs);
    });
  });
}
