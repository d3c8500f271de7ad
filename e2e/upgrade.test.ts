import { rm } from 'node:fs/promises';
import { expect, onTestFinished, type TestContext, test } from 'vitest';
import { ir } from './builds.ts';
import { expectUndisturbed, startCounted } from './counted-job.ts';
import { checkOut, type OldVersion, oldVersions } from './old-tree.ts';
import { type Rig, startRig } from './rig.ts';

const versions = await oldVersions();

test.skipIf(versions.length > 0)(
  'SKIPPED: an upgrade needs the history of this repository (git fetch --unshallow)',
  (context) => {
    context.skip('there is no earlier commit here');
  },
);

test.for(versions.slice(0, 1))(
  'a build begun under $title goes on under this one',
  { timeout: 180_000 },
  async (version, context) => {
    const { tree, rig } = await openOld(version);
    const old = await orSkip(context, rig.up([], { tree }));
    const number = await startCounted(old.builds);
    old.signal('SIGKILL');
    await old.ended;
    const up = await rig.up();
    await expectUndisturbed(up.builds, number);
    const next = await up.builds.create({ pipeline_ir: ir({ next: ['true'] }) });
    expect((await up.builds.ended(next)).build.state).toBe('passed');
  },
);

test.for(versions)(
  'a host of $title serves a control plane of this one',
  { timeout: 180_000 },
  async (version, context) => {
    const { tree, rig } = await openOld(version);
    const host = await orSkip(context, rig.host({ tree }));
    const old = await rig.up(['--host', host.socket], { tree });
    const number = await startCounted(old.builds);
    old.signal('SIGKILL');
    await old.ended;
    const up = await rig.up(['--host', host.socket]);
    await up.builds.logged(number, 'lines', 'line 30\n');
    host.signal('SIGKILL');
    await host.ended;
    await rig.host();
    await expectUndisturbed(up.builds, number);
    up.signal('SIGINT');
    await up.ended;
  },
);

/** An installation beside an earlier version; both go when the test is over, be it for its time. */
async function openOld(version: OldVersion): Promise<{ tree: string; rig: Rig }> {
  const tree = await checkOut(version);
  onTestFinished(() => rm(tree, { recursive: true }));
  const rig = await startRig();
  onTestFinished(() => rig.end());
  return { tree, rig };
}

/** An earlier version that does not start on this machine proves nothing. */
async function orSkip<T>({ skip }: TestContext, starting: Promise<T>): Promise<T> {
  return starting.catch((error: unknown) => skip(`SKIPPED: the earlier version does not start: ${error}`));
}
