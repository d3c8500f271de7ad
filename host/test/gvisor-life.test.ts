import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { readHostConfig } from '../config.ts';
import { type ContainerDriver, createContainerDriver } from '../container-driver.ts';
import { openDriver } from '../open-driver.ts';
import { makeDataDir } from './driver-rig.ts';
import { createGvisorDriver, gvisorProblem } from './gvisor-test-driver.ts';
import { leaveNothing } from './nothing-left.ts';
import { smallSpec } from './small-spec.ts';
import { runInside } from './test-driver.ts';
import { testKitsDir } from './test-kit.ts';

const problem = await gvisorProblem();
vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

/** A data directory; what is in it is removed by whatever driver is there last. */
async function place() {
  const { dataDir, imageDir } = await makeDataDir();
  onTestFinished(async () => {
    await leaveNothing(await createGvisorDriver({ dataDir }), dataDir);
    await rm(dataDir, { recursive: true, force: true });
  });
  return { dataDir, imageDir };
}

function createRunc(dataDir: string): Promise<ContainerDriver> {
  return createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 });
}

describe.skipIf(problem !== null)('a gVisor capsule', () => {
  it('outlives its host, and the next one goes on where it was', async () => {
    const { dataDir, imageDir } = await place();
    const first = await createGvisorDriver({ dataDir });
    const { guest } = await first.create(smallSpec('orphan', imageDir));
    const script = 'echo begun; while [ ! -e /go ]; do sleep 0.05; done; echo done; exit 7';
    await guest.exec({ argv: ['/bin/sh', '-c', script], env: { PATH: '/bin' }, cwd: '/', processId: 3 });
    guest.close();
    await first.close();
    const second = await createGvisorDriver({ dataDir });
    const machine = await second.adopt('orphan');
    const process = await machine?.guest.attach(3, 0);
    if (!machine || !process) throw new Error('it is not there any more');
    await runInside(machine, 'touch /go');
    let said = '';
    for await (const { bytes } of process.output()) said += Buffer.from(bytes).toString();
    expect(said).toBe('begun\ndone\n');
    expect(await process.exit).toMatchObject({ exitCode: 7 });
    await second.close();
  });

  it('ends as a whole when it takes more memory than it may have', async () => {
    const { dataDir, imageDir } = await place();
    const driver = await createGvisorDriver({ dataDir });
    const shape = { cpus: 1, memoryBytes: 64 * 2 ** 20, diskBytes: 2 ** 30, pids: 32 };
    const machine = await driver.create(smallSpec('greedy', imageDir, { shape }));
    await runInside(
      machine,
      'dd if=/dev/zero of=/dev/shm/x bs=1M count=30; dd if=/dev/zero of=/dev/null bs=400M',
    ).catch(() => {});
    await expect(machine.died).resolves.toMatchObject({ outOfMemory: true });
    await driver.close();
  });

  it('hands its disk on to containers of runc, and takes theirs; neither takes the other for its own', async () => {
    const { dataDir, imageDir } = await place();
    const gvisor = await createGvisorDriver({ dataDir });
    const one = await gvisor.create(smallSpec('one', imageDir));
    await runInside(one, 'echo gvisor > /root/by; rm -r /home; echo kept > /tmp/kept');
    const { upperDir } = await one.stop();
    await gvisor.create(smallSpec('left', imageDir));
    await gvisor.close();
    const runc = await createRunc(dataDir);
    expect(await runc.adopt('left')).toBeNull();
    await runc.remains('left').destroy();
    const two = await runc.create(smallSpec('two', imageDir, { layers: [upperDir, imageDir] }));
    const script = 'cat /root/by /tmp/kept; ls -d /home; echo runc >> /root/by';
    expect((await runInside(two, script)).stdout).toBe('gvisor\nkept\n');
    const { upperDir: above } = await two.stop();
    await runc.create(smallSpec('left', imageDir));
    await runc.close();
    const again = await createGvisorDriver({ dataDir });
    expect(await again.adopt('left')).toBeNull();
    const three = await again.create(smallSpec('three', imageDir, { layers: [above, upperDir, imageDir] }));
    expect((await runInside(three, 'cat /root/by; ls /')).stdout).toMatch(/^gvisor\nrunc\nbin\n(?!home)/);
    await again.close();
  });

  it('finds nothing of the host behind the links of its disk', async () => {
    const { dataDir, imageDir } = await place();
    const driver = await createGvisorDriver({ dataDir });
    const bait = await mkdtemp('/var/tmp/caisson-bait-');
    onTestFinished(() => rm(bait, { recursive: true }));
    await chmod(bait, 0o777);
    await writeFile(join(bait, 'hosts'), 'secret\n', { mode: 0o666 });
    for (const name of ['tmp', 'etc', '.caisson', 'proc']) {
      const layer = join(dataDir, 'layers', `link-${name}`);
      // What is inside under the same name takes the place of what is not.
      await mkdir(join(layer, bait), { recursive: true });
      await symlink(`../../../../../../../..${bait}`, join(layer, name));
      const start = driver.create(smallSpec('linked', imageDir, { layers: [layer, imageDir] }));
      // It may as well not start.
      const machine = await start.catch((error: unknown) => {
        expect(error).toMatchObject({ code: 'provision_failed' });
        return null;
      });
      if (machine === null) continue;
      const { stdout } = await runInside(machine, `cat /tmp/hosts /etc/hosts /.caisson/hosts; echo x > ${bait}/new`);
      expect(stdout).not.toMatch('secret');
      await machine.destroy();
    }
    expect(await readdir(bait)).toEqual(['hosts']);
    expect(await readFile(join(bait, 'hosts'), 'utf8')).toBe('secret\n');
    await driver.close();
  });

  it('is what --driver gvisor gives', async () => {
    const { dataDir } = await place();
    const config = readHostConfig({ CAISSON_DRIVER: 'gvisor', CAISSON_KITS_DIR: testKitsDir });
    const { driver, choice } = await openDriver({ dataDir, config, networkPoolSize: 0, progress: () => {} });
    expect(choice).toEqual({ driver: 'gvisor', accelerator: null, reason: 'asked for' });
    expect(driver.capabilities).toMatchObject({ driver: 'container', memorySnapshots: true });
    expect(driver.capabilities.runtime).toMatch(/^runsc /);
    await driver.close();
  });
});
