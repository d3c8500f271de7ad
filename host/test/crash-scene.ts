import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { RunAssignment, RunMessage, RunResult } from '@caisson/contracts/host-api';
import { expect } from 'vitest';
import type { CrashHost } from './crash-host.ts';
import { testAssignment } from './run-assignment.ts';
import { type Archive, archiveOf, pieces, tarOf } from './source-archive.ts';

/** What a control plane wants of a host, and what it has heard of it so far: it outlives every host. */
interface Scene {
  /** Has `host` do what is still to be done; true when everything is, false when the host is gone. */
  drive(host: CrashHost): Promise<boolean>;
  /** Everything came to its right end, once. `effects` is what the commands did outside of their capsules. */
  check(effects: readonly string[]): void;
}

/**
 * `job`: a parent on a source whose disk is kept, and a child on it. `pull`: an image of a registry. `render`: with the tools. `cancel`:
 * ended from outside. `flood`: more output than is kept. `unbegun` and `begun`: one whose capsule dies while no host is there, before
 * or after its command began.
 */
export type SceneName = 'job' | 'pull' | 'render' | 'cancel' | 'flood' | 'unbegun' | 'begun';

interface SceneWorld {
  /** An image by name and digest in a registry; null where there is none. */
  readonly image: string | null;
  /** Ids of the layers that images were pulled to. */
  readonly pulledLayers: () => Promise<readonly string[]>;
}

/** One run and what is known of it. */
interface Job {
  readonly assignment: RunAssignment;
  readonly expected: { readonly result: RunResult; readonly stdout: string; readonly effects: readonly string[] };
  readonly messages: RunMessage[];
  isTold: boolean;
  readonly isCanceled: boolean;
}

const lines = Array.from({ length: 200 }, (_line, index) => `line ${index + 1}\n`).join('');
const begin = 'echo "start $LEASE" > /effects/pipe';
const end = 'echo "end $LEASE" > /effects/pipe';
const talk = 'n=0; while [ $n -lt 200 ]; do n=$((n+1)); echo "line $n"; done';
const floodBytes = 65_536;

/** What a rendering runs here: a shell stands in for Node. It is run once outside of capsules too, for what Node keeps of it. */
export const renderScript = `[ -p /effects/pipe ] || exec mkdir "$NODE_COMPILE_CACHE"\n${begin}\necho '{}'\n${end}\n`;

function jobOf(
  text: string,
  expected: Partial<Job['expected']>,
  changes: Partial<RunAssignment> & { isCanceled?: boolean } = {},
): Job {
  const { isCanceled = false, ...rest } = changes;
  const leaseId = randomUUID();
  const assignment: RunAssignment = {
    ...testAssignment,
    ...{ leaseId, capsuleId: randomUUID(), work: { kind: 'shell', text }, base: { image: 'tiny' } },
    env: { LEASE: leaseId },
    ...rest,
  };
  const effects = [`start ${leaseId}`, `end ${leaseId}`];
  const result: RunResult = { outcome: 'exited', exitCode: 0, signal: null };
  return {
    assignment,
    expected: { result, stdout: '', effects, ...expected },
    messages: [],
    isTold: false,
    isCanceled,
  };
}

/** The steps of a scene: each does what is left of it, so that all of them can be gone through again with the next host. */
type Step = (plane: Plane) => Promise<void>;

async function makeSteps(
  name: SceneName,
  world: SceneWorld,
): Promise<{ jobs: readonly Job[]; steps: readonly Step[] }> {
  const only = (job: Job, ...after: Step[]) => ({ jobs: [job], steps: [runStep(job), ...after] });
  switch (name) {
    case 'job':
      return familySteps();
    case 'pull':
      return only(
        jobOf(`${begin}; ${talk}; ${end}`, { stdout: lines }, { base: { image: world.image ?? '' } }),
        async (plane) => {
          for (const layerId of await world.pulledLayers()) await plane.host.api.releaseLayer(layerId);
        },
      );
    case 'render': {
      const work = { kind: 'render', slug: null, preferred: 'ci', organization: 'local', nowS: 0 } as const;
      return only(jobOf('', { stdout: '{}\n' }, { work }));
    }
    case 'cancel': {
      const result = { outcome: 'canceled' } as const;
      const job = jobOf(`${begin}; echo here; exec sleep 600`, { result, stdout: 'here\n' }, { isCanceled: true });
      return only(withoutEnd(job));
    }
    case 'unbegun':
      return only(jobOf('true', { result: lost, effects: [] }));
    case 'begun':
      return only(withoutEnd(jobOf(`${begin}; echo here; exec sleep 600`, { result: lost, stdout: 'here\n' })));
    case 'flood': {
      const stdout = 'y\n'.repeat(floodBytes / 2);
      return only(jobOf(`${begin}; yes | head -c 300000; ${end}`, { stdout }, { maxOutputBytes: floodBytes }));
    }
  }
}

const lost = expect.objectContaining({ outcome: 'failed', code: 'sandbox_lost' });

/** One whose command begins and is ended by another. */
function withoutEnd(job: Job): Job {
  return { ...job, expected: { ...job.expected, effects: job.expected.effects.slice(0, 1) } };
}

/** A parent on a source with the network, whose disk is kept, and a child on that disk. */
async function familySteps() {
  const source = archiveOf(await tarOf([{ name: 'given', content: `given ${randomUUID()}\n` }]));
  const sealAs = randomUUID();
  const parent = jobOf(
    `${begin}; ${talk}; cat given > /made; ls -l /made >> made; chmod 600 made; ${end}`,
    { stdout: lines },
    { sealAs, sourceDigest: source.digest, egress: 'internet' },
  );
  const child = jobOf(
    `${begin}; cmp given /made && wc -l < made && stat -c %a made && ${end}`,
    { stdout: '1\n600\n' },
    { base: { layerId: sealAs } },
  );
  const released = new Set<string>();
  const release =
    (layerId: string): Step =>
    async ({ host }) => {
      if (released.has(layerId)) return;
      await host.api.releaseLayer(layerId);
      released.add(layerId);
    };
  const steps = [
    bringStep(source, parent),
    runStep(parent),
    runStep(child),
    release(sealAs),
    release(`source-${source.digest}`),
  ];
  return { jobs: [parent, child], steps };
}

function bringStep({ digest, bytes }: Archive, job: Job): Step {
  return async ({ host }) => {
    if (job.isTold || (await host.api.hasBlob(digest))) return;
    await host.api.putBlob(digest, pieces(bytes));
  };
}

function runStep(job: Job): Step {
  return async ({ host, changed, complain }) => {
    const { leaseId, fence } = job.assignment;
    if (isFinished(job)) return;
    if (!job.isTold) {
      await host.api.startRun(job.assignment);
      job.isTold = true;
    }
    const { leases } = await host.api.heartbeat();
    if (!isFinished(job) && !leases.some((lease) => lease.leaseId === leaseId)) complain(`${leaseId} was forgotten`);
    let isToldToEnd = false;
    while (!isFinished(job)) {
      if (job.isCanceled && !isToldToEnd && job.messages.some(({ kind }) => kind === 'output')) {
        isToldToEnd = true;
        await host.api.cancelRun({ leaseId, fence }, 'canceled');
      } else await changed();
    }
  };
}

function isFinished({ messages }: Job): boolean {
  return messages.at(-1)?.kind === 'finished';
}

interface Plane {
  readonly host: CrashHost;
  /** Resolves at the next message. */
  changed(): Promise<void>;
  complain(violation: string): void;
}

export async function openScene(name: SceneName, world: SceneWorld): Promise<Scene> {
  const { jobs, steps } = await makeSteps(name, world);
  const violations: string[] = [];
  const complain = (violation: string) => void violations.push(violation);
  let change = Promise.withResolvers<void>();

  async function receive({ api }: CrashHost, signal: AbortSignal): Promise<void> {
    for await (const message of api.watch(signal)) {
      const job = jobs.find(({ assignment: { leaseId } }) => leaseId === message.leaseId);
      if (job === undefined) complain(`a message of the unknown run ${message.leaseId}`);
      else take(job, message, complain);
      const { leaseId, fence, seq } = message;
      await api.acknowledge([{ leaseId, fence, seq }]);
      change.resolve();
      change = Promise.withResolvers<void>();
    }
  }

  return {
    async drive(host) {
      const ending = new AbortController();
      const received = receive(host, ending.signal).catch(() => {});
      const plane: Plane = { host, changed: () => change.promise, complain };
      const goThrough = async () => {
        for (const step of steps) await step(plane);
        while ((await host.api.heartbeat()).leases.length > 0) await delay(5);
        // As a control plane does that stood still for all of that time.
        for (const { assignment } of jobs) await host.api.startRun(assignment);
        if ((await host.api.heartbeat()).leases.length > 0) complain('what had ended was begun again');
        return true;
      };
      try {
        return await Promise.race([goThrough(), host.ended.then(() => false)]);
      } catch (error) {
        // A call fails a moment before the end of the process is seen.
        if (await Promise.race([host.ended.then(() => true), delay(3_000, false)])) return false;
        throw error;
      } finally {
        ending.abort();
        await received;
      }
    },
    check(effects) {
      expect(violations).toEqual([]);
      for (const job of jobs) checkJob(job);
      expect(effects).toEqual(jobs.flatMap(({ expected }) => expected.effects));
    },
  };
}

/** Takes a message that is new; one that comes again has to be the same. */
function take({ messages }: Job, message: RunMessage, complain: (violation: string) => void): void {
  const { leaseId, seq } = message;
  const known = messages[seq - 1];
  if (known === undefined && seq === messages.length + 1) messages.push(message);
  else if (known === undefined) complain(`message ${seq} of ${leaseId} came behind ${messages.length}`);
  else if (!isDeepStrictEqual(known, message)) complain(`message ${seq} of ${leaseId} is another one the second time`);
}

function checkJob({ assignment, messages, expected }: Job): void {
  const kinds = messages.map(({ kind }) => kind);
  const last = messages.at(-1);
  expect(last?.kind === 'finished' && last.result).toEqual(expected.result);
  expect(kinds.filter((kind) => kind === 'started')).toHaveLength(Math.min(1, expected.effects.length));
  expect(kinds.filter((kind) => kind === 'finished')).toHaveLength(1);
  const textOf = (wanted: string) =>
    messages
      .map((each) => (each.kind === 'output' && each.stream === wanted ? Buffer.from(each.bytes).toString() : ''))
      .join('');
  expect([textOf('stdout'), textOf('stderr')]).toEqual([expected.stdout, '']);
  const markers = textOf('meta').split('output limit of').length - 1;
  expect(markers).toBe(assignment.maxOutputBytes === floodBytes ? 1 : 0);
}
