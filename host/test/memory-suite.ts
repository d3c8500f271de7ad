import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Machine, MemorySnapshots } from '../machine-driver.ts';
import type { DriverUnderTest } from './driver-rig.ts';
import { runInside as runBriefly } from './test-driver.ts';

/** Hashes what is on its heap every time it is asked, and counts all the while. It starts no program to wait: twenty of it run at once. */
const program = (heapBytes: number) => `
mkfifo /dev/shm/ask /dev/shm/answer
exec 9<> /dev/shm/ask
i=0
heap=$(head -c ${heapBytes} /dev/urandom | base64 -w 0)
echo "$heap" | md5sum > /root/heap
while :; do
  i=$((i+1)); echo $i > /dev/shm/count
  asked=; read -t 0.05 -u 9 asked
  [ -z "$asked" ] || echo "$heap" | md5sum > /dev/shm/answer
done`;
const ask =
  'echo now > /dev/shm/ask; read sum < /dev/shm/answer; read kept < /root/heap; [ -n "$sum" ] && [ "$sum" = "$kept" ]';
/** While it is written it may be empty. */
const count = 'until read count < /dev/shm/count; do :; done; echo $count';

interface MemorySuite {
  readonly name: string;
  /** Null when the driver can be tested here. */
  readonly problem: string | null;
  readonly open: () => Promise<DriverUnderTest>;
  /** Prints what no two of these capsules have in common. */
  readonly identity: string;
  /** How much is on tmpfs and on disk: twice as much that stays, and once as much that changes with every round. */
  readonly sizeBytes: number;
}

/** What every body of `MemorySnapshots` keeps, over many rounds and in many forks. */
export function memorySuite({ name, problem, open, identity, sizeBytes }: MemorySuite): void {
  describe.skipIf(problem !== null)(`the memory of a capsule of the ${name} driver`, () => {
    let test: DriverUnderTest;
    let memory: MemorySnapshots;
    beforeAll(async () => {
      test = await open();
      if (test.driver.memory === undefined) throw new Error('the driver has no memory snapshots');
      memory = test.driver.memory;
    });
    afterAll(() => test.end());

    it('comes back ten times as it was: heap, tmpfs, disk, pages that became zero, and a process that counts on', async () => {
      let machine = await test.driver.create(test.spec('sleeper'));
      await start(machine, sizeBytes);
      await runInside(machine, filling(2 * sizeBytes));
      const id = await runInside(machine, identity);
      let counted = 0;
      for (let round = 0; round < 10; round++) {
        // What was random in one round is zero in the next: pages of zeros must not come back as they were.
        const [from, to] = round % 2 === 0 ? ['zero', 'urandom'] : ['urandom', 'zero'];
        await runInside(
          machine,
          `head -c ${sizeBytes} /dev/${from} > /dev/shm/changing; head -c ${sizeBytes} /dev/${to} > /root/changing
          md5sum /dev/shm/changing /root/changing > /root/changed`,
        );
        await memory.suspend('sleeper');
        expect(await machine.died).toMatchObject({ detail: 'the host stopped it' });
        expect(await test.driver.adopt('sleeper')).toBeNull();
        machine = await memory.wake(test.spec('sleeper'));
        const whole = await runInside(
          machine,
          `md5sum -c /root/sums /root/changed > /dev/null && ${ask} && { ${count}; }`,
        );
        expect(Number(whole.stdout)).toBeGreaterThan(counted);
        counted = Number(whole.stdout);
      }
      expect((await runInside(machine, identity)).stdout).toBe(id.stdout);
      expect(await runInside(machine, 'hostname')).toMatchObject({ stdout: 'sleeper\n' });
      const age = Number((await runInside(machine, 'date +%s')).stdout) - Date.now() / 1_000;
      expect(Math.abs(age)).toBeLessThan(60);
      // Its disk is whole without its memory, too.
      const { upperDir } = await machine.stop();
      expect(upperDir).toBeTruthy();
      await machine.destroy();
    });

    it('goes on in twenty forks at once, each on its own, while the machine it is of goes on as well', async () => {
      const base = await test.driver.create(test.spec('base'));
      await start(base, sizeBytes);
      const snapshot = join(test.dataDir, 'snapshot');
      await memory.snapshot('base', snapshot);
      const layers = [snapshot, test.imageDir];
      const ids = Array.from({ length: 20 }, (_, index) => `fork-${index}`);
      const forks = await Promise.all(ids.map((id) => memory.restore(snapshot, test.spec(id, { layers }))));
      const work = `head -c 16 /dev/urandom | md5sum; ${identity}; hostname > /root/who; read who < /root/who; echo $who; read name < /proc/sys/kernel/hostname; echo $name`;
      const said = await Promise.all(forks.map((fork) => runInside(fork, work)));
      const lines = said.map(({ stdout }) => stdout.trim().split('\n'));
      for (const column of [0, 1, 2]) expect(new Set(lines.map((each) => each[column])).size).toBe(20);
      expect(lines.map((each) => each[3])).toEqual(ids);
      for (const fork of forks.slice(0, 3)) expect(await runInside(fork, ask)).toMatchObject({ exitCode: 0 });
      await Promise.all(forks.slice(1).map((fork) => fork.destroy()));
      expect(await runInside(base, `test ! -e /root/who && ${ask}`)).toMatchObject({ exitCode: 0 });
      await base.destroy();

      // What a fork wrote is kept like any other disk, above that of the snapshot.
      const [fork] = forks;
      const { upperDir } = (await fork?.stop()) ?? { upperDir: '' };
      const later = await test.driver.create(test.spec('later', { layers: [upperDir, ...layers] }));
      expect(await runInside(later, 'cat /root/who')).toMatchObject({ stdout: 'fork-0\n' });
      await later.destroy();
      await fork?.destroy();
    });

    it('is refused where there is none', async () => {
      await expect(memory.suspend('nobody')).rejects.toMatchObject({ code: 'snapshot_failed' });
      await expect(memory.wake(test.spec('nobody'))).rejects.toMatchObject({ code: 'snapshot_failed' });
      const restored = memory.restore(join(test.dataDir, 'nothing'), test.spec('nobody'));
      await expect(restored).rejects.toMatchObject({ code: 'snapshot_failed' });
      expect(await test.driver.list()).toEqual([]);
    });
  });
}

/** Twenty machines at a time are slow on a few processors. */
async function runInside(machine: Machine, script: string) {
  const output = await runBriefly(machine, script, { timeoutMs: 300_000 });
  expect(output).toMatchObject({ exitCode: 0, stderr: '' });
  return output;
}

function filling(bytes: number): string {
  return `head -c ${bytes} /dev/urandom > /dev/shm/noise; head -c ${bytes} /dev/zero > /dev/shm/zeros
    head -c ${bytes} /dev/urandom > /root/file; md5sum /dev/shm/noise /root/file > /root/sums`;
}

async function start(machine: Machine, sizeBytes: number): Promise<void> {
  const argv = ['/bin/sh', '-c', program(sizeBytes / 2)] as const;
  await machine.guest.exec({ argv, env: { PATH: '/bin' }, cwd: '/', processId: 7 });
  expect(await runInside(machine, `until [ -s /root/heap ]; do sleep 0.05; done; ${ask}`)).toMatchObject({
    exitCode: 0,
  });
}
