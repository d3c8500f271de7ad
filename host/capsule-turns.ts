import { AppError } from '@caisson/contracts/app-error';
import type { Machine, MachineDriver, MachineSpec, Remains } from './machine-driver.ts';

/** What a driver can do with one capsule, if nothing else is done with it at the time. */
interface CapsuleWork {
  readonly create: (spec: MachineSpec) => Promise<Machine>;
  readonly remains: (capsuleId: string) => Remains;
  /** Capsules this process holds. */
  readonly live: ReadonlyMap<string, Machine>;
}

/** The calls of a driver that must not meet in one capsule. */
export function capsuleTurns({
  create,
  remains,
  live,
}: CapsuleWork): Pick<MachineDriver, 'create' | 'remains' | 'destroy'> {
  const starting = new Map<string, Promise<Machine>>();
  return {
    async create(spec) {
      if (starting.has(spec.capsuleId)) throw new AppError('already_exists', `capsule ${spec.capsuleId} is starting`);
      const start = create(spec);
      starting.set(spec.capsuleId, start);
      return start.finally(() => starting.delete(spec.capsuleId));
    },
    remains,
    async destroy(capsuleId) {
      // One that is being created cannot be taken apart at the same time.
      await starting.get(capsuleId)?.catch(() => {});
      const machine = live.get(capsuleId);
      await (machine ?? remains(capsuleId)).destroy();
    },
  };
}
