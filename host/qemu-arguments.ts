import { kitKernelPath } from './qemu-kit.ts';

export type Accelerator = 'kvm' | 'hvf' | 'tcg';

/** A disk QEMU gets as open files: it needs no path, and no right but the descriptors. */
export interface QemuDisk {
  /** The serial number by which the guest finds it, and the name of its node. */
  readonly name: string;
  readonly writable: boolean;
  /** The file it is, then what lies under it. `fd` is the number of the descriptor in QEMU's process. */
  readonly chain: readonly { readonly format: 'raw' | 'qcow2'; readonly fd: number }[];
}

export interface QemuMachine {
  readonly accelerator: Accelerator;
  /** Number of the descriptor of /dev/kvm in QEMU's process: it need not be allowed to open it. */
  readonly kvmFd: number | null;
  /** Frequency of the processor's time stamp counter, which a guest cannot measure under emulation; 0 when not known. */
  readonly tscKhz: number;
  readonly cpus: number;
  readonly ramBytes: number;
  readonly disks: readonly QemuDisk[];
  /**
   * Whether it has a network card. QEMU itself opens the connections its guest asks for, so the guest reaches what QEMU's network
   * namespace reaches, under the same packet rules, and loopback of that namespace as its gateway.
   */
  readonly hasNetwork: boolean;
  /** Path of the first root below the root of the kit. */
  readonly initramfsPath: string;
  /** Words for the guest's init, behind `boot`. */
  readonly bootWords: readonly string[];
}

/** Files in a machine's run directory, which QEMU sees at `/run`. */
export const qemuSockets = { control: 'qmp.sock', agent: 'agent.sock' } as const;

/** Where the guest's console can be read by name over the control socket. */
export const consoleName = 'console';
export const consoleBytes = 65_536;

/** The program and its arguments for a machine that boots, in the root of the kit. It waits for `cont` before its first instruction. */
export function qemuArguments(machine: QemuMachine): readonly string[] {
  return [
    '/usr/bin/qemu-system-x86_64',
    ...['-nodefaults', '-no-user-config', '-display', 'none', '-S'],
    // What a guest does to end itself leaves the process standing, so that its last words can still be read.
    ...['-action', 'reboot=shutdown,shutdown=pause'],
    ...['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny'],
    ...['-L', '/usr/share/qemu', '-L', '/usr/share/seabios'],
    ...machineArguments(machine),
    ...['-chardev', `socket,id=control,path=/run/${qemuSockets.control},server=on,wait=off`],
    ...['-mon', 'chardev=control,mode=control'],
    ...['-chardev', `ringbuf,id=${consoleName},size=${consoleBytes}`, '-serial', `chardev:${consoleName}`],
    ...['-device', 'virtio-serial-device,max_ports=2'],
    ...['-chardev', `socket,id=agent,path=/run/${qemuSockets.agent},server=on,wait=off`],
    ...['-device', 'virtserialport,chardev=agent,name=agent.0'],
    ...['-device', 'virtio-rng-device'],
    ...machine.disks.flatMap(diskArguments),
    ...(machine.hasNetwork ? networkArguments : []),
    ...['-kernel', kitKernelPath, '-initrd', machine.initramfsPath, '-append', kernelCommandLine(machine)],
  ];
}

/**
 * The addresses a guest has on the network QEMU makes up for it; the same in every machine. Of a range for documentation: nothing a
 * guest wants to reach, its name servers above all, may be hidden behind it.
 */
export const guestNetwork = { address: '192.0.2.15', gateway: '192.0.2.2' } as const;

const networkArguments = [
  ...['-netdev', `user,id=network,ipv6=off,net=192.0.2.0/24,host=${guestNetwork.gateway},dns=192.0.2.3`],
  ...['-device', 'virtio-net-device,netdev=network'],
];

function machineArguments({ accelerator, kvmFd, cpus, ramBytes }: QemuMachine): readonly string[] {
  const device = kvmFd === null ? '' : `,device=/dev/fdset/${kvmFd}`;
  const accel = accelerator === 'tcg' ? 'tcg,tb-size=64' : `${accelerator}${device}`;
  // One bit of `host` is announced by some hypervisors that refuse it when it is set.
  const cpu = accelerator === 'tcg' ? 'max' : accelerator === 'kvm' ? 'host,-arch-capabilities' : 'host';
  return [
    ...(kvmFd === null ? [] : ['-add-fd', `fd=${kvmFd},set=${kvmFd}`]),
    ...['-machine', 'microvm,memory-backend=ram', '-accel', accel, '-cpu', cpu, '-smp', String(cpus)],
    ...['-m', `size=${ramBytes / 2 ** 20}M`, '-object', `memory-backend-ram,id=ram,size=${ramBytes}`],
  ];
}

function diskArguments({ name, writable, chain }: QemuDisk): readonly string[] {
  const top = {
    ...blockNode(chain),
    'node-name': name,
    'read-only': !writable,
    // Nothing a machine writes is promised to survive a loss of power before it is kept, and keeping it syncs.
    cache: { 'no-flush': true },
    ...(writable ? { discard: 'unmap', 'detect-zeroes': 'unmap' } : {}),
  };
  return [
    ...chain.flatMap(({ fd }) => ['-add-fd', `fd=${fd},set=${fd}`]),
    ...['-blockdev', JSON.stringify(top)],
    ...['-device', `virtio-blk-device,drive=${name},serial=${name}`],
  ];
}

/** Spelled out to the lowest file: what a disk written by a stranger says lies under it is not looked at. */
function blockNode([top, ...below]: QemuDisk['chain']): object {
  const file = { driver: 'file', filename: `/dev/fdset/${top?.fd}`, locking: 'off' };
  return { driver: top?.format, file, ...(below.length > 0 ? { backing: blockNode(below) } : {}) };
}

function kernelCommandLine({ accelerator, tscKhz, bootWords }: QemuMachine): string {
  const clock = accelerator === 'tcg' && tscKhz > 0 ? [`tsc_early_khz=${tscKhz}`, 'tsc=reliable'] : [];
  const kernel = ['console=ttyS0', 'quiet', 'loglevel=3', 'panic=-1', 'reboot=t', ...clock, 'rdinit=/init'];
  return [...kernel, '--', 'boot', ...bootWords].join(' ');
}
