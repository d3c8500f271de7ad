import { kitKernelPath } from './qemu-kit.ts';

export type Accelerator = 'kvm' | 'hvf' | 'tcg';

/** How a QEMU comes to a machine that runs. */
export type QemuBeginning =
  | {
      readonly kind: 'boot';
      /** Path of the first root below the root of the kit. */
      readonly initramfsPath: string;
      /** Words for the guest's init, behind `boot`. */
      readonly words: readonly string[];
      /** Whether its memory is the file QEMU sees at `/work/ram`, so that others can begin with it. */
      readonly sharesMemory: boolean;
    }
  /**
   * From the memory of another, which QEMU sees at `/work/ram` and never writes to, and the state of its devices, which follows over the
   * control socket. `of: 'one'` is the state as QEMU writes it for a single machine, without a description of itself.
   */
  | { readonly kind: 'clone'; readonly of: 'template' | 'one' };

interface QemuMachine {
  readonly accelerator: Accelerator;
  /** Number of the descriptor of /dev/kvm in QEMU's process: it need not be allowed to open it. */
  readonly kvmFd: number | null;
  /** Frequency of the processor's time stamp counter, which a guest cannot measure under emulation; 0 when not known. */
  readonly tscKhz: number;
  readonly cpus: number;
  readonly ramBytes: number;
  /** Places for disks; what is in them comes later, see `qemu-disks.ts`. */
  readonly diskPlaces: number;
  /**
   * Whether it has a network card. QEMU itself opens the connections its guest asks for, so the guest reaches what QEMU's network
   * namespace reaches, under the same packet rules, and loopback of that namespace as its gateway.
   */
  readonly hasNetwork: boolean;
  readonly beginning: QemuBeginning;
}

/** Files in a machine's run directory, which QEMU sees at `/run`. */
export const qemuSockets = { control: 'qmp.sock', files: 'files.sock', agent: 'agent.sock' } as const;

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
    ...['-chardev', `socket,id=files,path=/run/${qemuSockets.files},server=on,wait=off`],
    ...['-mon', 'chardev=files,mode=control'],
    ...['-chardev', `ringbuf,id=${consoleName},size=${consoleBytes}`, '-serial', `chardev:${consoleName}`],
    ...['-device', 'virtio-serial-device,max_ports=2'],
    ...['-chardev', `socket,id=agent,path=/run/${qemuSockets.agent},server=on,wait=off`],
    ...['-device', 'virtserialport,chardev=agent,name=agent.0'],
    ...['-device', 'virtio-rng-device'],
    ...Array.from({ length: machine.diskPlaces }, (_, number) => placeArguments(number)).flat(),
    ...(machine.hasNetwork ? networkArguments : []),
    ...beginningArguments(machine),
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

/** Apart from the sets of files that come later. */
const kvmSet = 1_000;

function machineArguments(machine: QemuMachine): readonly string[] {
  const { accelerator, kvmFd, cpus, ramBytes } = machine;
  const device = kvmFd === null ? '' : `,device=/dev/fdset/${kvmSet}`;
  const accel = accelerator === 'tcg' ? 'tcg,tb-size=64' : `${accelerator}${device}`;
  // One bit of `host` is announced by some hypervisors that refuse it when it is set.
  const cpu = accelerator === 'tcg' ? 'max' : accelerator === 'kvm' ? 'host,-arch-capabilities' : 'host';
  return [
    ...(kvmFd === null ? [] : ['-add-fd', `fd=${kvmFd},set=${kvmSet}`]),
    ...['-machine', 'microvm,memory-backend=ram,mem-merge=off', '-accel', accel, '-cpu', cpu, '-smp', String(cpus)],
    ...['-m', `size=${ramBytes / 2 ** 20}M`, '-object', `${memoryBackend(machine)},id=ram,size=${ramBytes}`],
  ];
}

function memoryBackend({ beginning }: QemuMachine): string {
  const file = 'memory-backend-file,mem-path=/work/ram';
  if (beginning.kind === 'clone') return `${file},share=off,readonly=on,rom=off`;
  return beginning.sharesMemory ? `${file},share=on` : 'memory-backend-ram';
}

/** The name of the place of a disk, which is also its serial number, and of its device. The first is the one that can be written to. */
export function diskPlace(number: number): string {
  return `disk${number}`;
}

/** As large as any disk that may come: the guest learns the size of the place, and the disk itself says how large it is. */
const placeBytes = 2 ** 44;

function placeArguments(number: number): readonly string[] {
  const place = diskPlace(number);
  const nothing = { driver: 'null-co', 'node-name': `${place}-empty`, 'read-zeroes': true };
  const empty = { ...nothing, size: placeBytes, 'read-only': number > 0 };
  return [
    ...['-blockdev', JSON.stringify(empty)],
    ...['-device', `virtio-blk-device,id=${place},drive=${place}-empty,serial=${place}`],
  ];
}

function beginningArguments(machine: QemuMachine): readonly string[] {
  const { beginning } = machine;
  if (beginning.kind === 'boot') {
    const commandLine = kernelCommandLine(machine, beginning.words);
    return ['-kernel', kitKernelPath, '-initrd', beginning.initramfsPath, '-append', commandLine];
  }
  const plain = beginning.of === 'one' ? ['-global', 'migration.send-configuration=off'] : [];
  return ['-incoming', 'defer', ...plain];
}

function kernelCommandLine({ accelerator, tscKhz }: QemuMachine, words: readonly string[]): string {
  const clock = accelerator === 'tcg' && tscKhz > 0 ? [`tsc_early_khz=${tscKhz}`, 'tsc=reliable'] : [];
  const kernel = ['console=ttyS0', 'quiet', 'loglevel=3', 'panic=-1', 'reboot=t', ...clock, 'rdinit=/init'];
  return [...kernel, '--', 'boot', ...words].join(' ');
}
