import { createHash } from 'node:crypto';
import type { Handler, Output } from './operation.ts';
import { presentJob } from './present.ts';
import { findBuild } from './scope.ts';
import { type BuildRow, selectJobs } from './select.ts';
import { makeWakeUp } from './wake-up.ts';

const longestWaitMs = 20_000;

export const listJobs: Handler<'listJobs'> = async (deps, caller, { path, query }) => {
  const find = () => findBuild(deps, caller, { ...path, action: 'job.view' });
  const list = async (build: BuildRow): Promise<Output<'listJobs'>> => {
    const rows = await selectJobs(deps.db).where('jobs.build_id', '=', build.id).orderBy('jobs.position').execute();
    const data = rows.map(presentJob);
    return { data, tag: tagOf([build.status, data]) };
  };
  const build = await find();
  if (query.known === undefined) return list(build);
  const { onBuildChange, waitsOver } = deps.engine;
  const wakeUp = makeWakeUp((wake) => onBuildChange(build.id, wake), waitsOver);
  try {
    const endsAtMs = performance.now() + longestWaitMs;
    for (;;) {
      const answer = await list(await find());
      const leftMs = endsAtMs - performance.now();
      if (answer.tag !== query.known || leftMs <= 0 || waitsOver.aborted) return answer;
      await wakeUp.wait(leftMs);
    }
  } finally {
    wakeUp.close();
  }
};

function tagOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64url').slice(0, 22);
}
