import { AppError } from '@caisson/contracts/app-error';
import type { Machine, MachineDriver, MachineSpec, Remains } from './machine-driver.ts';
import type { Strays } from './strays.ts';

/** What a driver can do with one capsule, if nothing else is done with it at the time. */
interface CapsuleWork {
  readonly create: (spec: MachineSpec) => Promise<Machine>;
  /** Takes up one this process does not hold. */
  readonly adopt: (capsuleId: string) => Promise<Machine | null>;
  readonly remains: (capsuleId: string) => Remains;
  /** Capsules this process holds. */
  readonly live: ReadonlyMap<string, Machine>;
  /** Tried once more whenever a capsule is created. */
  readonly strays: Strays;
}

/** The calls of a driver that must not meet in one capsule. */
export function capsuleTurns({
  create,
  adopt,
  remains,
  live,
  strays,
}: CapsuleWork): Pick<MachineDriver, 'create' | 'adopt' | 'remains' | 'destroy'> {
  const starting = new Map<string, Promise<Machine>>();
  return {
    async create(spec) {
      if (starting.has(spec.capsuleId)) throw new AppError('already_exists', `capsule ${spec.capsuleId} is starting`);
      void strays.retry();
      const start = create(spec);
      starting.set(spec.capsuleId, start);
      return start.finally(() => starting.delete(spec.capsuleId));
    },
    adopt: async (capsuleId) => live.get(capsuleId) ?? adopt(capsuleId),
    remains,
    async destroy(capsuleId) {
      // One that is being created cannot be taken apart at the same time.
      await starting.get(capsuleId)?.catch(() => {});
      const machine = live.get(capsuleId);
      await (machine ?? remains(capsuleId)).destroy();
    },
  };
}
