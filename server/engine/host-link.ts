import { crashPoint } from '@caisson/contracts/crash-point';
import type { HostApi, HostDescription, RunAck, RunMessage } from '@caisson/contracts/host-api';
import { sql } from 'kysely';
import type { Logger } from 'pino';
import type { Blobs } from '../store/blobs.ts';
import { databaseTrouble } from '../store/database-trouble.ts';
import type { RunDefaults } from './assignment.ts';
import { makeBatcher } from './batcher.ts';
import type { Effects } from './effects.ts';
import { type Dispatcher, makeDispatcher } from './host-dispatch.ts';
import { heartbeatLoop } from './host-heartbeat.ts';
import { releaseLoop } from './host-release.ts';
import { startLoop } from './loop.ts';
import { type MessageBatch, makeMessageQueue } from './message-queue.ts';
import type { Notifications } from './notifications.ts';
import { applyMessages, findLeases, type LeaseOwner } from './run-messages.ts';
import type { Surroundings } from './surroundings.ts';
import type { TransitionDeps } from './transition.ts';

const protocol = 1;
const retryMs = 500;
/** After so many failures in a row, one build that cannot be changed is suspected and every build is tried alone. */
const failuresTillAlone = 3;
const asideMs = 30_000;

export interface HostLinkDeps extends TransitionDeps, Surroundings {
  readonly effects: Effects;
  readonly notifications: Notifications;
  /** Sources, by digest. */
  readonly blobs: Blobs;
  /** Layers on their way from host to host. */
  readonly layerBlobs: Blobs;
  /** Every host this control plane can reach, by id, whoever serves it. */
  readonly hosts: Map<string, HostApi>;
  readonly defaults: RunDefaults;
  readonly logger: Logger;
}

/** One host that this control plane serves. */
export interface Link {
  readonly deps: HostLinkDeps;
  readonly host: HostApi;
  readonly hostId: string;
  /** Aborts when this control plane serves it no longer. */
  readonly signal: AbortSignal;
}

/**
 * Connects one host with the database until `signal` aborts: registers it, hands it its leases, renews them, stores what it reports.
 * Of several control planes that can reach the host one does this at a time.
 */
export async function linkHost(deps: HostLinkDeps, host: HostApi, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const description = await describe(deps, host, signal);
    if (description === null) return;
    const { hostId } = description;
    deps.hosts.set(hostId, host);
    const ownSignal = new AbortController();
    const lock = { name: `host:${hostId}`, signal: AbortSignal.any([signal, ownSignal.signal]) };
    const onError = (error: unknown) => deps.logger.warn({ err: error, hostId }, 'a host link failed; trying again');
    try {
      await deps.withLock({ ...lock, onError }, async (held) => {
        const link: Link = { deps, host, hostId, signal: held };
        await register(link, description);
        // Another host answers where this one did: start over.
        if (!(await serve(link, held))) ownSignal.abort();
      });
    } finally {
      // It may have been attached anew meanwhile.
      if (deps.hosts.get(hostId) === host) deps.hosts.delete(hostId);
    }
  }
}

async function describe(
  { logger, pause }: HostLinkDeps,
  host: HostApi,
  signal: AbortSignal,
): Promise<HostDescription | null> {
  while (!signal.aborted) {
    try {
      const description = await host.describe();
      if (description.protocol === protocol) return description;
      logger.error({ hostId: description.hostId, protocol: description.protocol }, 'a host speaks another protocol');
      await pause(10 * retryMs, signal);
    } catch (error) {
      logger.warn({ err: error }, 'a host does not answer yet');
      await pause(retryMs, signal);
    }
  }
  return null;
}

async function register({ deps }: Link, { hostId, driver, capacity }: HostDescription): Promise<void> {
  const columns = {
    driver: driver.driver,
    runtime: driver.runtime,
    memory_snapshots: driver.memorySnapshots,
    cpus: capacity.cpus,
    memory_bytes: capacity.memoryBytes,
    disk_bytes: capacity.diskBytes,
    last_seen_at: sql<Date>`clock_timestamp()`,
  };
  await deps.db
    .insertInto('hosts')
    .values({ id: hostId, name: hostId, ...columns })
    .onConflict((conflict) => conflict.column('id').doUpdateSet(columns))
    .execute();
  crashPoint('host.registered');
  deps.notifications.wake(['placement:all']);
}

/** False when another host answers. */
async function serve(link: Link, held: AbortSignal): Promise<boolean> {
  const { deps, hostId } = link;
  const dispatcher = makeDispatcher(link);
  const dispatching = startLoop(dispatcher.loop, deps);
  const releasing = startLoop(releaseLoop(link), deps);
  const beating = startLoop(heartbeatLoop(link), deps);
  const unsubscribe = deps.notifications.on('host', hostId, () => {
    dispatching.wake();
    releasing.wake();
  });
  try {
    return await receive(link, dispatcher, held);
  } finally {
    unsubscribe();
    await Promise.all([dispatching, releasing, beating].map((loop) => loop.stop()));
    await dispatcher.idle();
  }
}

/** Follows the host's messages and takes them up again after any failure; the host re-sends what was not acknowledged. */
async function receive(link: Link, dispatcher: Dispatcher, signal: AbortSignal): Promise<boolean> {
  const failures = { inRow: 0 };
  for (let isFirst = true; !signal.aborted; isFirst = false) {
    try {
      if (!isFirst) {
        // It may have been started anew meanwhile, with more room or less.
        const description = await link.host.describe();
        if (description.hostId !== link.hostId) return false;
        await register(link, description);
      }
      await follow(link, dispatcher, { signal, failures });
    } catch (error) {
      if (!signal.aborted)
        link.deps.logger.warn({ err: error, hostId: link.hostId }, 'the messages of a host stopped; trying again');
    }
    await link.deps.pause(retryMs, signal);
  }
  return true;
}

interface Following {
  readonly signal: AbortSignal;
  readonly failures: { inRow: number };
}

async function follow(link: Link, dispatcher: Dispatcher, { signal, failures }: Following): Promise<void> {
  const attempt = new AbortController();
  const stop = () => attempt.abort();
  signal.addEventListener('abort', stop, { once: true });
  const acks = makeBatcher<RunAck>(async (batch) => {
    await link.host.acknowledge(batch);
    crashPoint('messages.acknowledged');
  });
  const underWay = new Set<Promise<void>>();
  const acknowledge = (ack: RunAck, isLast: boolean): void => {
    // A host forgets a run with the last acknowledgement, and would begin it anew if it was handed over once more after that.
    const ready = isLast ? dispatcher.settled(ack.leaseId) : Promise.resolve();
    const acknowledged = ready
      .then(() => acks.add(ack))
      .catch(stop)
      .finally(() => underWay.delete(acknowledged));
    underWay.add(acknowledged);
  };
  const store = makeStore(link, { acknowledge, failures, stop, ended: attempt.signal });
  const queue = makeMessageQueue(store, stop);
  try {
    for await (const message of link.host.watch(attempt.signal)) await queue.push(message);
    await queue.drain();
  } finally {
    signal.removeEventListener('abort', stop);
    attempt.abort();
    await queue.drain().catch(() => {});
    // A host that is left for good forgets what is stored; one that is followed anew is told again.
    if (signal.aborted) await Promise.all(underWay);
  }
}

interface StoreOptions {
  readonly failures: { inRow: number };
  acknowledge(ack: RunAck, isLast: boolean): void;
  /** Has the host followed anew. */
  stop(): void;
  /** Aborts when that has happened. */
  readonly ended: AbortSignal;
}

/** Stores batches of messages and acknowledges them. */
function makeStore({ deps, hostId }: Link, { acknowledge, failures, stop, ended }: StoreOptions) {
  const owners = new Map<string, LeaseOwner>();
  const aside = new Set<string>();

  async function ownersOf(batch: MessageBatch): Promise<readonly LeaseOwner[]> {
    const unknown = [...batch.values()].flatMap(([first]) => (first && !owners.has(first.leaseId) ? [first] : []));
    const asked = unknown.map(({ leaseId, fence }) => ({ leaseId, fence }));
    if (asked.length > 0) for (const owner of await findLeases(deps.db, asked)) owners.set(owner.leaseId, owner);
    return [...batch.keys()].flatMap((leaseId) => (aside.has(leaseId) ? [] : (owners.get(leaseId) ?? [])));
  }

  /** A build that cannot be changed is put aside until the host is followed anew; its messages stay on the host. */
  async function storeAlone(all: readonly LeaseOwner[], batch: MessageBatch): Promise<void> {
    let isAnyStored = false;
    let last: unknown;
    for (const ofBuild of Map.groupBy(all, ({ buildId }) => buildId).values()) {
      try {
        await applyMessages(deps, ofBuild, batch);
        isAnyStored = true;
      } catch (error) {
        last = error;
        const buildId = ofBuild[0]?.buildId;
        deps.logger.error({ err: error, hostId, buildId }, 'messages of a build cannot be stored');
        if (aside.size === 0) void deps.pause(asideMs, ended).then(stop);
        for (const { leaseId } of ofBuild) aside.add(leaseId);
      }
    }
    if (!isAnyStored && last !== undefined) throw last;
  }

  return async (batch: MessageBatch): Promise<void> => {
    try {
      const known = await ownersOf(batch);
      if (failures.inRow >= failuresTillAlone) await storeAlone(known, batch);
      else if (known.length > 0) await applyMessages(deps, known, batch);
    } catch (error) {
      // No build is to blame for a database that can store nothing.
      if (databaseTrouble(error) === null) failures.inRow += 1;
      throw error;
    }
    if (aside.size === 0) failures.inRow = 0;
    for (const [leaseId, messages] of batch) {
      const last: RunMessage | undefined = messages.at(-1);
      if (last === undefined || aside.has(leaseId)) continue;
      const isLast = last.kind === 'finished';
      if (isLast) owners.delete(leaseId);
      acknowledge({ leaseId, fence: last.fence, seq: last.seq }, isLast);
    }
  };
}
