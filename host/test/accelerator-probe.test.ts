import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { chooseAccelerator, describeChoice } from '../accelerator-probe.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { tempDir } from './temp-dir.ts';
import { microvmProblem, testKitsDir } from './test-kit.ts';

const problem = await microvmProblem();
vi.setConfig({ testTimeout: 300_000 });

describe.skipIf(problem !== null)('the accelerator', () => {
  it('is the first with which a guest really boots, found once and kept', async () => {
    const dataDir = await tempDir();
    const choice = await chooseAccelerator({ dataDir, kitsDir: testKitsDir });
    expect(choice.trials.at(-1)).toMatchObject({ accelerator: choice.accelerator, works: true });
    for (const trial of choice.trials.slice(0, -1)) expect(trial).toMatchObject({ works: false, bootMs: null });
    await expectNothingLeft(join(dataDir, 'accelerator-probe'));
    expect(describeChoice(choice)).toMatch(/using (KVM|emulation|Hypervisor)/);

    // Nothing is booted the second time: there is no QEMU where it would look for one.
    const path = join(dataDir, 'accelerator-probe.json');
    const kept = JSON.parse(await readFile(path, 'utf8'));
    expect(await chooseAccelerator({ dataDir, kitsDir: testKitsDir, agentPath: '/nowhere' })).toEqual(choice);
    await writeFile(path, JSON.stringify({ ...kept, circumstances: 'others' }));
    const again = chooseAccelerator({ dataDir, kitsDir: testKitsDir, agentPath: '/nowhere' });
    await expect(again).rejects.toMatchObject({ code: 'runtime_unavailable' });
  });

  it('is told in words', () => {
    const trials = [
      { accelerator: 'kvm', works: false, detail: 'no agent greeted', bootMs: null },
      { accelerator: 'tcg', works: true, detail: '', bootMs: 2_700 },
    ] as const;
    expect(describeChoice({ accelerator: 'tcg', trials })).toBe(
      'KVM is present, but a guest does not boot (no agent greeted); using emulation (TCG), which is much slower; a guest booted in 2700 ms',
    );
  });
});
