import type { HostApi } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import { createBuild } from './create-build.ts';
import type { Effect } from './effects.ts';
import type { Engine } from './engine.ts';
import { type HostLinkDeps, linkHost } from './host-link.ts';
import { startLoop } from './loop.ts';
import { placeJobs } from './place-jobs.ts';
import { planRenderedBuild } from './plan-rendered-build.ts';
import { scanLeases } from './scan-leases.ts';
import { changeBuild } from './transition.ts';

const lookAgainMs = 1_000;

export interface RunningEngine extends Engine {
  /** Serves a host from now on, until it is detached or the engine stops. */
  attachHost(host: HostApi): { detach(): Promise<void> };
  /** Ends every `createBuild` that still waits for its graph, with `service_unavailable`. */
  interruptWaits(): void;
  /** Stops placing new jobs; those that run go on. */
  stopPlacing(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts everything that happens by itself: placing, dispatch, leases, effects, timers. */
export async function makeEngine(deps: HostLinkDeps): Promise<RunningEngine> {
  const stopping = new AbortController();
  const waiting = new AbortController();
  const links = new Set<Promise<void>>();
  const placing = startLoop(
    { name: 'place', everyMs: lookAgainMs, run: () => placeJobs(deps, deps.defaults.shape) },
    deps.logger,
  );
  const scanning = startLoop({ name: 'leases', everyMs: lookAgainMs, run: () => scanLeases(deps) }, deps.logger);
  const unsubscribe = deps.notifications.on('placement', 'all', () => placing.wake());
  await deps.effects.perform((effect) => perform(deps, effect));

  return {
    createBuild: (input) => createBuild({ ...deps, stopping: waiting.signal }, input),
    async cancelBuild(buildId) {
      await changeBuild(deps, buildId, (change) => change.apply({ kind: 'cancel' }));
    },
    onJobChange: (jobId, wake) => deps.notifications.on('job', jobId, wake),
    attachHost(host) {
      const own = new AbortController();
      const link = linkHost(deps, host, AbortSignal.any([stopping.signal, own.signal])).catch((error) =>
        deps.logger.error({ error }, 'a host link ended'),
      );
      links.add(link);
      return {
        async detach() {
          own.abort();
          await link;
          links.delete(link);
        },
      };
    },
    interruptWaits: () => waiting.abort(),
    stopPlacing: () => placing.stop(),
    async stop() {
      waiting.abort();
      stopping.abort();
      unsubscribe();
      await Promise.all([placing.stop(), scanning.stop(), ...links]);
      await deps.effects.stop();
    },
  };
}

async function perform(deps: HostLinkDeps, effect: Effect): Promise<void> {
  switch (effect.kind) {
    case 'plan_rendered_build':
      return planRenderedBuild(deps, effect.buildId);
    case 'build_deadline':
      await changeBuild(deps, effect.buildId, (change) => change.apply({ kind: 'build_timeout' }));
      return;
    case 'stop_deadline': {
      const { jobId, leaseId } = effect;
      await changeBuild(deps, effect.buildId, (change) => change.job(jobId, { kind: 'stop_expired', leaseId }));
      return;
    }
    case 'release_layers':
      await deps.db
        .updateTable('layers')
        .set({ released_at: sql<Date>`clock_timestamp()` })
        .where('build_id', '=', effect.buildId)
        .where('released_at', 'is', null)
        .execute();
  }
}
