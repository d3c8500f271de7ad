import { mkdtemp, readFile, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '@caisson/contracts/app-error';
import { chooseAccelerator, describeChoice } from './accelerator-probe.ts';
import { readCgroupHierarchy } from './cgroup-hierarchy.ts';
import { type HostConfig, readHostConfig } from './config.ts';
import { type ContainerDriverOptions, createContainerDriver } from './container-driver.ts';
import { type ChoiceOptions, chooseDriver, microvmPlaces } from './driver-choice.ts';
import { exists } from './exists.ts';
import { buildAgent } from './guest-binary.ts';
import { readHostResolvers } from './network-resolvers.ts';
import { findQemuKit } from './qemu-kit.ts';
import { missing, ok, type Requirement, warning } from './requirement.ts';
import { runProgram } from './run-program.ts';
import { findRunsc } from './runsc-kit.ts';

/**
 * Looks at this machine, and starts one real capsule to see whether it can. `dataDir` is that of the whole installation; it need not
 * exist. Never throws for what it finds.
 */
export async function hostRequirements(
  dataDir = '/',
  config: HostConfig = readHostConfig({}),
): Promise<readonly Requirement[]> {
  const choice = { wish: config.driver, kitsDir: config.kitsDir, dataDir: join(dataDir, 'host') };
  const checks = [
    checkRoot(),
    checkCompiler(),
    checkPrograms(),
    checkCgroups(),
    checkUserNamespaces(),
    checkOverlay(),
    checkCapsule(),
    checkResolvers(),
    checkForwarding(),
    checkDisk(dataDir),
    checkGvisor(choice),
    checkMicrovm(choice),
    checkDriver(choice),
  ];
  return (await Promise.all(checks)).flat();
}

async function checkRoot(): Promise<Requirement> {
  if (process.getuid?.() === 0) return ok('root', 'running as root');
  return missing('root', `running as user ${process.getuid?.() ?? 'unknown'}`, 'start Caisson with sudo');
}

async function checkCompiler(): Promise<Requirement> {
  try {
    await buildAgent();
    return ok('guest agent', 'compiled');
  } catch (error) {
    return missing('guest agent', messageOf(error), 'apt-get install gcc libc6-dev');
  }
}

const packages = {
  nft: 'nftables',
  ip: 'iproute2',
  mount: 'mount',
  mmdebstrap: 'mmdebstrap',
  skopeo: 'skopeo',
  umoci: 'umoci',
};

async function checkPrograms(): Promise<readonly Requirement[]> {
  return Promise.all(
    Object.entries(packages).map(async ([program, debianPackage]) => {
      try {
        const { stdout } = await runProgram([program, program === 'ip' ? '-V' : '--version'], { timeoutMs: 10_000 });
        return ok(program, stdout.split('\n')[0] ?? '');
      } catch (error) {
        return missing(program, messageOf(error), `apt-get install ${debianPackage}`);
      }
    }),
  );
}

async function checkCgroups(): Promise<Requirement> {
  const { mode, roots } = await readCgroupHierarchy();
  if (roots.length > 0) return ok('control groups', mode);
  return missing('control groups', 'not mounted', 'mount -t cgroup2 none /sys/fs/cgroup');
}

async function checkUserNamespaces(): Promise<Requirement> {
  const path = '/proc/sys/user/max_user_namespaces';
  const limit = Number(await readFile(path, 'utf8').catch(() => '0'));
  if (limit > 0) return ok('user namespaces', `up to ${limit}`);
  return missing('user namespaces', 'turned off in this kernel', 'sysctl user.max_user_namespaces=15000');
}

async function checkOverlay(): Promise<Requirement> {
  const filesystems = await readFile('/proc/filesystems', 'utf8');
  if (/\toverlay$/m.test(filesystems)) return ok('overlayfs', 'in the kernel');
  return warning('overlayfs', 'not loaded', 'modprobe overlay');
}

/** The proof of the pudding: runtime, overlay mount, namespaces, limits, seccomp and the agent in one. */
async function checkCapsule(): Promise<Requirement> {
  const name = 'container runtime';
  if (process.getuid?.() !== 0) return warning(name, 'not tried, since that needs root', 'start Caisson with sudo');
  return startOne({}).then(
    (runtime) => ok(name, `${runtime} started a capsule`),
    (error: unknown) => missing(name, messageOf(error), 'apt-get install runc'),
  );
}

/** Never missing: without, capsules are other containers. */
async function checkGvisor(options: ChoiceOptions): Promise<Requirement> {
  const name = 'gVisor';
  if (process.getuid?.() !== 0) return warning(name, 'not tried, since that needs root', 'start Caisson with sudo');
  const { kitsDir } = microvmPlaces(options);
  if ((await findRunsc(kitsDir)) === null) {
    const fix = 'caisson run --driver gvisor';
    return warning(name, 'not tried: runsc (7 MB) is fetched when it is first used, if none of 2024 is installed', fix);
  }
  return startOne({ gvisor: { kitsDir } }).then(
    (runtime) => ok(name, `${runtime} started a capsule`),
    (error: unknown) => warning(name, messageOf(error), null),
  );
}

/** Has a driver start one capsule, which it does when it is opened for the first time. Returns the runtime; throws. */
async function startOne(options: Partial<ContainerDriverOptions>): Promise<string> {
  const dataDir = await mkdtemp(join(tmpdir(), 'caisson-doctor-'));
  try {
    const driver = await createContainerDriver({ dataDir, networkPoolSize: 0, ...options });
    await driver.close();
    return driver.capabilities.runtime;
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
}

async function checkResolvers(): Promise<Requirement> {
  const { addresses, problem } = await readHostResolvers();
  if (problem === null) return ok('name servers', addresses.join(', '));
  return warning('name servers', problem, 'set the resolvers of capsules in the configuration');
}

/** Our rules can refuse, but not overrule another table that drops; container engines like to leave such a policy. */
async function checkForwarding(): Promise<Requirement> {
  const name = 'forwarding';
  const chain = await runProgram(['nft', 'list', 'chain', 'ip', 'filter', 'FORWARD']).then(
    ({ stdout }) => stdout,
    () => '',
  );
  if (!chain.includes('policy drop')) return ok(name, 'no other firewall drops what capsules send');
  const rule = 'iptables -I FORWARD -i cs+ -j ACCEPT; iptables -I FORWARD -o cs+ -j ACCEPT';
  return warning(name, 'the FORWARD chain of another firewall drops by default; capsules may have no network', rule);
}

async function checkDisk(dataDir: string): Promise<Requirement> {
  const name = 'free disk';
  const stats = await statfs(await existingParent(dataDir));
  const freeGib = (stats.bavail * stats.bsize) / 1024 ** 3;
  const detail = `${freeGib.toFixed(1)} GiB at ${dataDir}`;
  if (freeGib >= 10) return ok(name, detail);
  const fix = 'free some space or choose another data directory';
  return freeGib >= 2 ? warning(name, detail, fix) : missing(name, detail, fix);
}

async function existingParent(path: string): Promise<string> {
  return path === '/' || (await exists(path)) ? path : existingParent(join(path, '..'));
}

/** Boots a guest, once per boot of this machine. Never missing: without, capsules are containers. */
async function checkMicrovm(options: ChoiceOptions): Promise<Requirement> {
  const name = 'micro-VMs';
  const { microvmDir, kitsDir } = microvmPlaces(options);
  if ((await findQemuKit(kitsDir)) === null) {
    const fix = 'caisson run --driver microvm';
    return warning(name, 'not tried: QEMU and a guest kernel (76 MB) are fetched when they are first used', fix);
  }
  try {
    const choice = await chooseAccelerator({ dataDir: microvmDir, kitsDir });
    const isFast = choice.accelerator !== 'tcg';
    return isFast ? ok(name, describeChoice(choice)) : warning(name, describeChoice(choice), null);
  } catch (error) {
    return warning(name, messageOf(error), null);
  }
}

/** What capsules will be at the next start, and why. */
async function checkDriver(options: ChoiceOptions): Promise<Requirement> {
  const name = 'driver';
  const { kitsDir } = microvmPlaces(options);
  if (options.wish === 'microvm' && (await findQemuKit(kitsDir)) === null) return ok(name, 'microvm (asked for)');
  try {
    const { driver, accelerator, reason } = await chooseDriver(options);
    return ok(name, `${driver}${accelerator === null ? '' : `, ${accelerator}`} (${reason})`);
  } catch (error) {
    return missing(name, messageOf(error), 'caisson run --driver container');
  }
}
