import { buffer } from 'node:stream/consumers';
import type { HostApi, RunMessage } from '@caisson/contracts/host-api';
import type { MessageStream, SimulatedHost } from './simulated-host.ts';
import { cutKey, type Life, SimulatedFault, type World } from './world.ts';

const fastestMs = 0.1;
const usualSpreadMs = 3;
const lateRepeatMs = 5_000;
const noticeMs = 2_000;

/** A host as one control plane reaches it: over a network that is slow, and in bad weather loses, repeats and delays. */
export function hostOverNetwork(world: World, life: Life, host: SimulatedHost): HostApi {
  const ask = <T>(name: string, work: () => T): Promise<T> => call(world, { life, host, name }, work);
  return {
    describe: () => ask('describe', host.describe),
    heartbeat: () => ask('heartbeat', host.heartbeat),
    hasBlob: (digest) => ask('hasBlob', () => host.hasBlob(digest)),
    async putBlob(digest, bytes) {
      const all = await buffer(bytes);
      return ask('putBlob', () => host.putBlob(digest, all));
    },
    startRun: (assignment) => ask('startRun', () => host.startRun(assignment)),
    cancelRun: (lease, reason) => ask('cancelRun', () => host.cancelRun(lease, reason)),
    watch: (signal) => watch(world, { life, host }, signal),
    acknowledge: (acks) => ask('acknowledge', () => host.acknowledge(acks)),
    releaseLayer: (layerId) => ask('releaseLayer', () => host.releaseLayer(layerId)),
    describeLayer: (layerId) => ask('describeLayer', () => host.describeLayer(layerId)),
    hasLayer: (copyId) => ask('hasLayer', () => host.hasLayer(copyId)),
    async *readLayer(copyId) {
      yield await ask('readLayer', () => host.readLayer(copyId));
    },
    async putLayer(layer, bytes) {
      const all = await buffer(bytes);
      return ask('putLayer', () => host.putLayer(layer, all));
    },
  };
}

interface Way {
  readonly life: Life;
  readonly host: SimulatedHost;
}

function isOpen({ weather }: World, { life, host }: Way): boolean {
  return host.isUp && !weather.cuts.has(cutKey(life.name, host.name));
}

function latencyMs({ draws, weather }: World, name: string): number {
  const isDelayed = weather.delayMs > 0 && draws.chance(0.3, `${name} delayed`);
  return fastestMs + draws.unit(name) * (isDelayed ? weather.delayMs : usualSpreadMs);
}

function isLost({ draws, weather, stats }: World, name: string): boolean {
  if (weather.share === 0 || !draws.chance(weather.share, `${name} lost`)) return false;
  stats.dropped += 1;
  return true;
}

/**
 * One call and its reply. A call that was sent arrives even when its sender is gone by then; one that is repeated has its effect twice;
 * a sender whose reply is lost knows nothing.
 */
function call<T>(world: World, { life, host, name }: Way & { name: string }, work: () => T): Promise<T> {
  const { draws, history, stats, timeline, weather } = world;
  const label = `${life.name}>${host.name} ${name}`;
  const { processes } = host;
  return new Promise((resolve, reject) => {
    const fail = (why: string) => {
      history.mark(`${label} ${why}`);
      life.after(draws.unit(`${label} noticed`) * noticeMs, () => reject(new SimulatedFault(`${label}: ${why}`)));
    };
    const arrive = (isRepeat: boolean) => {
      if (host.processes !== processes || !isOpen(world, { life, host }) || isLost(world, label))
        return isRepeat || fail('the call was lost');
      history.mark(label);
      const answer = attempt(work);
      if (isRepeat) return;
      if (isLost(world, `${label} reply`)) return fail('the reply was lost');
      life.after(latencyMs(world, `${label} reply`), () => {
        if (!isOpen(world, { life, host })) fail('the reply was lost');
        else if (answer.ok) resolve(answer.value);
        else reject(answer.error);
      });
    };
    timeline.after(latencyMs(world, label), () => arrive(false));
    if (weather.share > 0 && draws.chance(weather.share, `${label} repeated`)) {
      stats.duplicated += 1;
      timeline.after(draws.unit(`${label} repeat`) * lateRepeatMs, () => arrive(true));
    }
  });
}

function attempt<T>(work: () => T): { ok: true; value: T } | { ok: false; error: unknown } {
  try {
    return { ok: true, value: work() };
  } catch (error) {
    return { ok: false, error };
  }
}

/** A connection that carries messages in order until it breaks. What was on its way then is lost; the host has it still. */
async function* watch(world: World, way: Way, signal: AbortSignal): AsyncGenerator<RunMessage> {
  const arrived: RunMessage[] = [];
  let broken: Error | null = null;
  let wake = () => {};
  let lastMs = 0;
  const { life, host } = way;
  const label = `${host.name}>${life.name} messages`;
  const stream: MessageStream = {
    isOpen: true,
    send(message) {
      // Nothing overtakes on one connection.
      lastMs = Math.max(lastMs, world.timeline.nowMs + latencyMs(world, label));
      life.after(lastMs - world.timeline.nowMs, () => {
        if (!stream.isOpen) return;
        if (!isOpen(world, way) || isLost(world, label)) return stream.close('the connection broke');
        deliver(world, way, message);
        arrived.push(message);
        wake();
      });
    },
    close(why) {
      if (!stream.isOpen) return;
      stream.isOpen = false;
      life.after(world.draws.unit(`${label} noticed`) * noticeMs, () => {
        broken = new SimulatedFault(`${label}: ${why}`);
        wake();
      });
    },
  };
  await call(world, { ...way, name: 'watch' }, () => host.watch(stream));
  signal.addEventListener('abort', () => wake(), { once: true });
  while (!signal.aborted) {
    const next = arrived.shift();
    if (next !== undefined) yield next;
    else if (broken !== null) throw broken;
    else await new Promise<void>((resolve) => (wake = resolve));
  }
  stream.isOpen = false;
}

function deliver({ history, ledger, records, stats }: World, { life, host }: Way, message: RunMessage): void {
  const { leaseId, fence, seq, kind } = message;
  const record = records.get(leaseId);
  const isAgain = record !== undefined && seq <= record.lastDelivered;
  const isLate = ledger.leases.get(leaseId)?.status !== 'held';
  if (isAgain) stats.duplicated += 1;
  else if (record !== undefined) record.lastDelivered = seq;
  if (isLate) stats.late += 1;
  const manner = `${isLate ? ', late' : ''}${isAgain ? ', again' : ''}`;
  history.say(life.name, `hears from ${host.name}: message ${seq} (${kind}) of fence ${fence}${manner}`);
}
