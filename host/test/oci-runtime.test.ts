import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { createContainerDriver } from '../container-driver.ts';
import type { VesselLayout } from '../container-layout.ts';
import { buildAgent } from '../guest-binary.ts';
import { type OciRuntime, startContainer } from '../oci-runtime.ts';
import { type RunBriefly, startResidentPrograms } from '../resident-programs.ts';
import { runProgram } from '../run-program.ts';
import { deviceOwners } from './device-owners.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { tempDir } from './temp-dir.ts';

// A runtime gives its three standard streams to the capsule's root: none may be a device or a file of the host.
test.for(['the starter of programs', 'this process, when the starter is lost'])(
  'a runtime started by %s has no stream that is anything of the host',
  async (by) => {
    const dir = await tempDir();
    const { toolPath, run } = await starterIn(dir, by === 'the starter of programs');
    const runtime = join(dir, 'runtime');
    const streams = join(dir, 'streams');
    const ask = 'said=$(for n in 0 1 2; do readlink /proc/$$/fd/$n; done)';
    await writeFile(runtime, `#!/bin/sh\n${ask}\necho "$said" > ${streams}\n`);
    await chmod(runtime, 0o755);
    const layout = {
      socketPath: join(dir, 'agent'),
      bundleDir: dir,
      pidFile: 'none',
      runtimeDir: dir,
      vesselId: 'none',
    };
    await startContainer(
      { runtime: { name: runtime, label: 'none' } as unknown as OciRuntime, toolPath, run },
      { layout: layout as unknown as VesselLayout, timeoutMs: 10_000 },
    );
    const targets = (await readFile(streams, 'utf8')).trimEnd().split('\n');
    expect(targets).toEqual(targets.map(() => expect.stringMatching(/^(pipe|socket):\[\d+\]$/)));
    expect(targets).toHaveLength(3);
  },
);

test('the trial of every installed runtime leaves the devices of the host as they were', async () => {
  const before = await deviceOwners();
  const dataDir = await tempDir();
  const driver = await createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 });
  await driver.close();
  await expectNothingLeft(dataDir);
  expect(await deviceOwners()).toEqual(before);
});

async function starterIn(dir: string, isResident: boolean): Promise<{ toolPath: string; run: RunBriefly }> {
  const toolPath = await buildAgent();
  if (!isResident) return { toolPath, run: runProgram };
  const programs = await startResidentPrograms({ agentPath: toolPath, socketPath: join(dir, 'programs') });
  onTestFinished(() => programs.close());
  return { toolPath, run: programs.run };
}
