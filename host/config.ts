import { AppError } from '@caisson/contracts/app-error';

/** What runs capsules, as it is asked for. */
export type DriverWish = 'auto' | 'container' | 'gvisor' | 'microvm';
/** Every one of them. */
export const driverWishes: readonly DriverWish[] = ['auto', 'container', 'gvisor', 'microvm'];

/** Settings of a host, from the environment. `docs/configuration.md` describes each variable. */
export interface HostConfig {
  /** CAISSON_DRIVER: what runs capsules. */
  readonly driver: DriverWish;
  /** CAISSON_KITS_DIR: where QEMU and the guest kernel of micro-virtual machines are kept; null for the data directory. */
  readonly kitsDir: string | null;
  /** CAISSON_IMAGE_ALIASES: comma-separated `name=image`, e.g. `ubuntu:24.04=minimal`; added to the built-in ones. */
  readonly imageAliases: Readonly<Record<string, string>>;
  /** CAISSON_EGRESS_ALLOW: comma-separated `CIDR` or `CIDR:port` that capsules may reach although it is private. */
  readonly egressAllow: readonly string[];
  /** CAISSON_RESOLVERS: comma-separated name servers for capsules instead of the host's own. */
  readonly resolvers: readonly string[] | null;
  /** CAISSON_DISK_BUDGET_GIB: what images, sources and sealed disks may take together. */
  readonly diskBudgetBytes: number;
  /** CAISSON_HOST_MEMORY_GIB: what capsules may take together, as far as jobs are given to this host; null for all there is. */
  readonly memoryBytes: number | null;
  /** CAISSON_BLANK_CAPSULES: most containers kept started ahead of need; null for what fits the machine. */
  readonly blankCapsules: number | null;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Stand-ins for images that need a registry; a build's log says when one was used. */
const builtInAliases = { 'ubuntu:24.04': 'minimal', 'ubuntu:22.04': 'minimal', ubuntu: 'minimal' };
const defaultDiskBudgetGib = 40;

/** Reads and checks the environment; throws `invalid_config` naming the variable. */
export function readHostConfig(env: Environment): HostConfig {
  return {
    driver: readDriver(env.CAISSON_DRIVER),
    kitsDir: env.CAISSON_KITS_DIR || null,
    imageAliases: { ...builtInAliases, ...readAliases(env.CAISSON_IMAGE_ALIASES) },
    egressAllow: list(env.CAISSON_EGRESS_ALLOW),
    resolvers: env.CAISSON_RESOLVERS ? list(env.CAISSON_RESOLVERS) : null,
    diskBudgetBytes: readGib('CAISSON_DISK_BUDGET_GIB', env.CAISSON_DISK_BUDGET_GIB || defaultDiskBudgetGib),
    memoryBytes: env.CAISSON_HOST_MEMORY_GIB ? readGib('CAISSON_HOST_MEMORY_GIB', env.CAISSON_HOST_MEMORY_GIB) : null,
    blankCapsules: env.CAISSON_BLANK_CAPSULES ? readCount(env.CAISSON_BLANK_CAPSULES) : null,
  };
}

function readDriver(text = ''): DriverWish {
  const driver = driverWishes.find((wish) => wish === (text || 'auto'));
  if (driver !== undefined) return driver;
  throw new AppError('invalid_config', `CAISSON_DRIVER is ${text}; it must be one of ${driverWishes.join(', ')}`);
}

function list(text: string | undefined): readonly string[] {
  return (text ?? '')
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}

function readAliases(text: string | undefined): Record<string, string> {
  return Object.fromEntries(
    list(text).map((pair) => {
      const [name, image, ...rest] = pair.split('=');
      if (!name || !image || rest.length > 0) {
        throw new AppError('invalid_config', `CAISSON_IMAGE_ALIASES holds "${pair}"; each alias is name=image`);
      }
      return [name, image];
    }),
  );
}

function readCount(text: string): number {
  if (/^\d{1,4}$/.test(text)) return Number(text);
  throw new AppError('invalid_config', `CAISSON_BLANK_CAPSULES is ${text}; it must be a whole number, 0 for none`);
}

/** In bytes. */
function readGib(name: string, text: string | number): number {
  const gib = Number(text);
  if (!(gib > 0)) throw new AppError('invalid_config', `${name} is ${text}; it must be a positive number`);
  return gib * 2 ** 30;
}
