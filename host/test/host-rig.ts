import { randomUUID } from 'node:crypto';
import type { RunAssignment, RunMessage, RunResult } from '@caisson/contracts/host-api';
import { createContainerDriver } from '../container-driver.ts';
import { createDiskWatch, type DiskWatchOptions } from '../disk-watch.ts';
import { createHost, type Host } from '../host.ts';
import { createLayerStore, type DiskLayers } from '../layer-disk.ts';
import type { ImageStore } from '../layer-store.ts';
import type { MachineDriver } from '../machine-driver.ts';
import { makeProvisioner } from '../run-provision.ts';
import { createSourceStore } from '../source-store.ts';
import { expectNothingLeft } from './nothing-left.ts';
import { testAssignment } from './run-assignment.ts';
import { makeTinyImage } from './tiny-image.ts';

/** A host with everything real but its images: there is one, `tiny`. */
export interface HostRig {
  readonly host: Host;
  readonly layers: DiskLayers;
  /** Replaces where images come from; null puts `tiny` back. */
  takeImagesFrom(images: ImageStore | null): void;
  /** An assignment of `text` with ids of its own. */
  assignment(text: string, changes?: Partial<RunAssignment>): RunAssignment;
  /** Hands a run over and waits for its end. */
  run(text: string, changes?: Partial<RunAssignment>): Promise<RunResult>;
  ended(leaseId: string): Promise<RunResult>;
  /** What a run has said so far, the host's own lines left out. */
  output(leaseId: string): string;
  /** The same as bytes. */
  bytes(leaseId: string): Buffer;
  /** Follows the messages or stops to; what comes is acknowledged. */
  follow(): void;
  unfollow(): Promise<void>;
  /** Ends all runs and checks that nothing is left of them. */
  end(): Promise<void>;
}

interface RigOptions {
  readonly watch?: DiskWatchOptions;
  /** Another driver than containers. */
  readonly driver?: MachineDriver;
  readonly warn?: (line: string) => void;
}

export async function openHostRig(dataDir: string, options: RigOptions = {}): Promise<HostRig> {
  const driver = options.driver ?? (await createContainerDriver({ dataDir, networkPoolSize: 0, blankPoolSize: 0 }));
  const kind = driver.capabilities.driver;
  const layers = await createLayerStore({ dataDir, budgetBytes: 1e12, graceMs: 0, driver: kind });
  await layers.add('tiny', 'image', (directory) => makeTinyImage(directory));
  const tiny: ImageStore = { resolve: async () => ({ layerId: 'tiny', env: {}, digest: 'tiny', warning: null }) };
  let images = tiny;
  const sources = await createSourceStore({ dataDir, layers });
  const provisioner = makeProvisioner({
    driver,
    layers,
    sources,
    images: { resolve: (...call) => images.resolve(...call) },
    tools: async () => {
      throw new Error('no tools here');
    },
  });
  const description = {
    hostId: randomUUID(),
    protocol: 1,
    driver: driver.capabilities,
    capacity: { cpus: 8, memoryBytes: 2 ** 33, diskBytes: 2 ** 36 },
  } as const;
  const diskWatch = createDiskWatch(options.watch);
  const { warn = () => {} } = options;
  const host = await createHost({ description, dataDir, driver, layers, sources, provisioner, diskWatch, warn });
  await layers.hold('tiny', 'rig');
  const messages = new Map<string, RunMessage[]>();
  let changed = Promise.withResolvers<void>();
  let following: { stop(): void; ended: Promise<void> } | null = null;

  async function receive(signal: AbortSignal): Promise<void> {
    for await (const message of host.watch(signal)) {
      const { leaseId, fence, seq } = message;
      const known = messages.get(leaseId) ?? [];
      messages.set(leaseId, known);
      if (seq === known.length + 1) known.push(message);
      else if (seq > known.length) throw new Error(`message ${seq} of ${leaseId} came behind ${known.length}`);
      await host.acknowledge([{ leaseId, fence, seq }]);
      changed.resolve();
      changed = Promise.withResolvers<void>();
    }
  }

  const rig: HostRig = {
    host,
    layers,
    takeImagesFrom(other) {
      images = other ?? tiny;
    },
    assignment: (text, changes = {}) => ({
      ...testAssignment,
      leaseId: randomUUID(),
      capsuleId: randomUUID(),
      work: { kind: 'shell', text },
      ...changes,
    }),
    async run(text, changes) {
      const assignment = rig.assignment(text, changes);
      await host.startRun(assignment);
      return rig.ended(assignment.leaseId);
    },
    async ended(leaseId) {
      for (;;) {
        const last = messages.get(leaseId)?.at(-1);
        if (last?.kind === 'finished') return last.result;
        await changed.promise;
      }
    },
    output: (leaseId) => rig.bytes(leaseId).toString(),
    bytes: (leaseId) =>
      Buffer.concat(
        (messages.get(leaseId) ?? []).flatMap((message) =>
          message.kind === 'output' && message.stream !== 'meta' ? [message.bytes] : [],
        ),
      ),
    follow() {
      const stopping = new AbortController();
      following = { stop: () => stopping.abort(), ended: receive(stopping.signal) };
    },
    async unfollow() {
      following?.stop();
      await following?.ended;
      following = null;
    },
    async end() {
      await host.close({ end: true });
      await following?.ended;
      following = null;
      await expectNothingLeft(dataDir);
    },
  };
  rig.follow();
  return rig;
}
