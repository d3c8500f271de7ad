import { randomBytes } from 'node:crypto';
import { AppError } from '@caisson/contracts/app-error';
import type { MachineSpec } from './machine-driver.ts';
import { guestNetwork } from './qemu-arguments.ts';

/** What a guest's init has to know, as words of its command line or of its identity, neither of which has a way to quote. */
interface GuestWords {
  readonly spec: Pick<MachineSpec, 'hostname' | 'shape' | 'readOnlyBinds'>;
  readonly layerCount: number;
  /** Name servers; null without a network. */
  readonly resolvers: readonly string[] | null;
}

/** Throws `invalid_argument` for names that words cannot hold. */
export function checkWords({ hostname, readOnlyBinds }: Pick<MachineSpec, 'hostname' | 'readOnlyBinds'>): void {
  if (!/^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/.test(hostname))
    throw new AppError('invalid_argument', `${JSON.stringify(hostname)} cannot be a machine's name`);
  for (const { to } of readOnlyBinds)
    if (!/^(\/[A-Za-z0-9_][A-Za-z0-9._-]*)+$/.test(to))
      throw new AppError('invalid_argument', `${JSON.stringify(to)} cannot be a place for a directory of the host`);
}

/** The names a machine has for itself alone. */
export function nameWords({ hostname }: Pick<MachineSpec, 'hostname'>): readonly string[] {
  return [`hostname=${hostname}`, `machine=${randomBytes(16).toString('hex')}`];
}

/** Everything a machine without a disk yet has to know to become this one. */
export function guestWords({ spec, layerCount, resolvers }: GuestWords): readonly string[] {
  const { shape, readOnlyBinds } = spec;
  const limits = [`pids=${shape.pids}`, `memory=${shape.memoryBytes}`];
  const binds = readOnlyBinds.map(({ to }) => `bind=${to}`);
  return [...nameWords(spec), ...limits, `layers=${layerCount}`, ...binds, ...networkWords(resolvers)];
}

function networkWords(resolvers: readonly string[] | null): readonly string[] {
  if (resolvers === null) return [];
  const { address, gateway } = guestNetwork;
  return [`address=${address}`, `gateway=${gateway}`, ...resolvers.map((resolver) => `resolver=${resolver}`)];
}
