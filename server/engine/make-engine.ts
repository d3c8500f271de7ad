import { setMaxListeners } from 'node:events';
import { crashPoint } from '@caisson/contracts/crash-point';
import type { HostApi } from '@caisson/contracts/host-api';
import { createBuild } from './create-build.ts';
import type { Effect } from './effects.ts';
import type { Engine } from './engine.ts';
import { explainWaits } from './explain-waits.ts';
import { forgetLayerBlobs } from './forget-layer-blobs.ts';
import { type HostLinkDeps, linkHost } from './host-link.ts';
import { startLoop } from './loop.ts';
import { placeJobs } from './place-jobs.ts';
import { planRenderedBuild } from './plan-rendered-build.ts';
import { scanLeases } from './scan-leases.ts';
import { type Surroundings, systemSurroundings } from './surroundings.ts';
import { sweep } from './sweep.ts';
import { changeBuild } from './transition.ts';

const lookAgainMs = 1_000;
const sweepMs = 3_000;
const explainMs = 3_000;
const forgetMs = 60_000;

export interface RunningEngine extends Engine {
  /** Serves a host from now on, until it is detached or the engine stops. */
  attachHost(host: HostApi): { detach(): Promise<void> };
  /** Ends every `createBuild` that still waits for its graph, with `service_unavailable`. */
  interruptWaits(): void;
  /** Stops placing new jobs; those that run go on. */
  stopPlacing(): Promise<void>;
  stop(): Promise<void>;
}

type EngineDeps = Omit<HostLinkDeps, 'hosts'>;

export interface EngineOptions extends Omit<EngineDeps, keyof Surroundings> {
  readonly connectionString: string;
}

/** Starts everything that happens by itself: placing, dispatch, leases, effects, timers. */
export async function makeEngine({ connectionString, ...options }: EngineOptions): Promise<RunningEngine> {
  return startEngine({ ...options, ...systemSurroundings(connectionString) });
}

/** `makeEngine` in surroundings of the caller's own. */
export async function startEngine(engineDeps: EngineDeps): Promise<RunningEngine> {
  const deps: HostLinkDeps = { ...engineDeps, hosts: new Map() };
  const stopping = new AbortController();
  const waiting = new AbortController();
  setMaxListeners(0, waiting.signal);
  const links = new Set<Promise<void>>();
  const placing = startLoop({ name: 'place', everyMs: lookAgainMs, run: () => placeJobs(deps, deps.defaults) }, deps);
  let isFirst = true;
  const scan = async () => {
    await scanLeases(deps, { isFirst });
    isFirst = false;
  };
  const scanning = startLoop({ name: 'leases', everyMs: lookAgainMs, run: scan }, deps);
  const sweeping = startLoop({ name: 'sweep', everyMs: sweepMs, run: () => sweep(deps) }, deps);
  const explain = () => explainWaits(deps, deps.defaults);
  const explaining = startLoop({ name: 'explain', everyMs: explainMs, run: explain }, deps);
  const forgetting = startLoop({ name: 'layer blobs', everyMs: forgetMs, run: () => forgetLayerBlobs(deps) }, deps);
  const unsubscribe = deps.notifications.on('placement', 'all', () => placing.wake());
  const loops = [placing, scanning, sweeping, explaining, forgetting];
  const stopLoops = () => Promise.all(loops.map((loop) => loop.stop()));
  try {
    await deps.effects.perform((effect) => perform(deps, effect));
  } catch (error) {
    unsubscribe();
    await stopLoops();
    await deps.effects.stop();
    throw error;
  }

  return {
    createBuild: (input) => createBuild({ ...deps, stopping: waiting.signal }, input),
    async cancelBuild(buildId) {
      await changeBuild(deps, buildId, (change) => change.apply({ kind: 'cancel' }));
      crashPoint('cancel.recorded');
    },
    onJobChange: (jobId, wake) => deps.notifications.on('job', jobId, wake),
    onBuildChange: (buildId, wake) => deps.notifications.on('build', buildId, wake),
    waitsOver: waiting.signal,
    attachHost(host) {
      const own = new AbortController();
      const link = linkHost(deps, host, AbortSignal.any([stopping.signal, own.signal])).catch((error) =>
        deps.logger.error({ err: error }, 'a host link ended'),
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
      await Promise.all([stopLoops(), ...links]);
      await deps.effects.stop();
    },
  };
}

async function perform(deps: HostLinkDeps, effect: Effect): Promise<void> {
  switch (effect.kind) {
    case 'plan_rendered_build':
      return planRenderedBuild(deps, effect.buildId);
    default:
      // Of an earlier version; what it owed is found by a scan now.
      deps.logger.info({ effect }, 'an effect of another version is passed over');
  }
}
