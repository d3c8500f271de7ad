/** One attack from inside a capsule as root, which must fail. `docs/isolation.md` lists them all. */
export interface EscapeCase {
  readonly group: string;
  /** What the attacker wants, as the end of "a capsule cannot …". */
  readonly attack: string;
  /** Shell text that ends with 0 only when the attack worked. It finds its targets in the environment: see `EscapeTargets`. */
  readonly script: string;
  /** Words of the refusal: without them the attack was not even tried. */
  readonly refusal: RegExp;
  /** False for walls that only a driver with a kernel shared by host and capsules has to have: a virtual machine's root may mount. */
  readonly everyDriver: boolean;
}

/** Things of the host and of others that the attacks aim at, as environment variables of the scripts. */
export interface EscapeTargets {
  /** Path of a file on the host, and the word in it. */
  readonly SECRET: string;
  /** Pid of a process on the host. */
  readonly HOST_PID: string;
  /** Name of an abstract unix socket somebody on the host listens on. */
  readonly ABSTRACT: string;
  /** Port of a server on every address of the host. */
  readonly HOST_PORT: string;
  /** An address of the host that is not the capsule's gateway. */
  readonly HOST_ADDRESS: string;
  /** Another capsule of the same host, with a server on port 80. */
  readonly NEIGHBOUR: string;
  /** A server behind the host in a private network, `address port`. */
  readonly PRIVATE: string;
  /** A server with a public address that answers on ports 53, 853 and 7001. */
  readonly PUBLIC: string;
}

const refused = /not permitted|denied|not implemented|Invalid argument|Read-only/i;

function kernel(group: string, attacks: Readonly<Record<string, string>>): readonly EscapeCase[] {
  return Object.entries(attacks).map(([name, attack]) => ({
    group,
    attack,
    script: `/bin/hostile-probe ${name}`,
    refusal: refused,
    everyDriver: false,
  }));
}

function shell(group: string, attacks: readonly (readonly [attack: string, script: string, refusal?: RegExp])[]) {
  return attacks.map(
    ([attack, script, refusal]): EscapeCase => ({
      group,
      attack,
      script,
      refusal: refusal ?? refused,
      everyDriver: false,
    }),
  );
}

/** Ends with 0 when a command works on any device that the capsule shares with its host. */
function anyDevice(command: string): string {
  return `for d in null zero full random urandom tty; do ${command} && exit 0; done; exit 1`;
}

const mounts = kernel('mounts', {
  mount_tmpfs: 'mount a tmpfs',
  mount_proc: 'mount another /proc',
  mount_sysfs: 'mount /sys',
  mount_cgroup: 'mount a cgroup v1 hierarchy, the way to release_agent',
  mount_overlay: 'mount an overlay of its own',
  mount_devpts: 'mount another /dev/pts',
  mount_bind: 'bind a directory elsewhere',
  remount_agent: 'make the agent writable by a remount',
  remount_sysctl: 'make /proc/sys writable by a remount',
  propagate: 'make its mounts propagate',
  umount_sysctl: 'take the cover off /proc/sys',
  umount_resolv: 'take the cover off /etc/resolv.conf',
  umount_root: 'unmount its root',
  pivot: 'pivot to another root',
  new_fsopen: 'use fsopen',
  new_open_tree: 'clone a mount tree',
  new_move_mount: 'move a mount',
  new_setattr: 'change the attributes of a mount',
  freeze: 'freeze the file system',
});

const namespaces = kernel('namespaces', {
  every_clone: 'start a process in any new namespace by clone',
  every_unshare: 'move into any new namespace by unshare',
  every_setns: 'join any namespace through /proc',
  clone3: 'use clone3, whose flags no filter sees',
});

const calls = kernel('kernel', {
  init_module: 'load a module from memory',
  finit_module: 'load a module from a file',
  delete_module: 'unload a module',
  kexec: 'load another kernel',
  loaded_program: 'use bpf',
  performance: 'use perf events',
  user_faults: 'use userfaultfd',
  session_keys: 'use a keyring',
  added_key: 'add a key',
  requested_key: 'ask the host for a key',
  rings: 'use io_uring',
  secret_memory: 'use memfd_secret',
  future_call: 'use a call of a future kernel',
  dead_32: 'use a call of the 32-bit interface',
  dead_x32: 'use a call of the x32 interface',
  other_personality: 'take another personality',
  ports: 'use input and output ports',
  restarted: 'touch what restarts the machine',
  swap_on: 'turn on swap',
  kernel_log: 'read the kernel log',
  accounting: 'turn on process accounting',
  host_name: 'change the hostname',
  domain_name: 'change the domain name',
  watch_all: 'use fanotify',
  quota: 'use quotas',
  hang_up: 'hang up a terminal',
  clock_back: 'set the clock',
  clock_adjusted: 'slew the clock',
  realtime: 'take realtime priority',
  nicer: 'take priority over others',
  realtime_disk: 'take realtime priority of the disk',
});

const devices = kernel('devices', {
  disk_of_host: 'open the disk its files lie on',
  memory_device: 'open /dev/mem',
  kernel_messages: 'open /dev/kmsg',
  kvm_device: 'open /dev/kvm',
  fuse_device: 'open /dev/fuse',
  tunnel_device: 'open /dev/net/tun',
  loop_device: 'open a loop device',
  whiteout: 'make a whiteout by hand',
});

const files = [
  ...kernel('files', {
    trusted_opaque: 'hide lower layers by a trusted attribute',
    trusted_redirect: 'redirect into lower layers by a trusted attribute',
    immutable: 'make a file the host cannot remove',
    handle_of_root: "open the host's root by handle",
  }),
  ...shell('files', [
    ['write to the agent', 'echo x > /.caisson/agent'],
    ['replace the agent', 'rm -f /.caisson/agent || mv /bin/sh /.caisson/agent', /busy/i],
    ['write to its resolv.conf', 'echo nameserver 8.8.8.8 > /etc/resolv.conf'],
    ['write to its hosts file', 'echo x >> /etc/hosts'],
    ['write to the tools', 'echo x > /opt/tools/bin/busybox'],
    ['add to the tools', 'touch /opt/tools/new'],
    ["change the mode of the host's devices", anyDevice('chmod 000 /dev/$d')],
    ["give itself the host's devices", anyDevice('chown 0:0 /dev/$d || { rm /dev/$d && mknod /dev/$d c 1 3; }')],
  ]),
];

const settings = shell('settings', [
  ['write kernel settings', 'echo 1 > /proc/sys/kernel/panic'],
  ['have a program of its own called for core dumps', 'echo "|/tmp/x" > /proc/sys/kernel/core_pattern'],
  [
    'have a program of its own called for modules',
    'echo /tmp/x > /proc/sys/kernel/modprobe',
    /Read-only|denied|nonexistent/,
  ],
  ['turn on forwarding', 'echo 1 > /proc/sys/net/ipv4/ip_forward'],
  ['change binary formats', 'ls /proc/sys/fs/binfmt_misc/register', /No such file/],
  [
    'use the system request key',
    'test "$(stat -c %t:%T /proc/sysrq-trigger)" != 1:3 && echo h > /proc/sysrq-trigger',
    /^$|nonexistent|denied/,
  ],
  ['write to /sys', 'mkdir /sys/x || echo 0 > /sys/devices/system/cpu/cpu1/online'],
  ['name a hotplug helper', 'echo /tmp/x > /sys/kernel/uevent_helper', /nonexistent/],
  ['become exempt from the killer', 'echo -1000 > /proc/self/oom_score_adj'],
  ['map other users', 'echo "0 0 4294967295" > /proc/self/uid_map'],
]);

const reading = shell('reading', [
  ["read the kernel's memory", 'test -s /proc/kcore || head -c1 /proc/kcore | grep -q . || { echo denied; false; }'],
  ['see keys', 'grep . /proc/keys /proc/key-users || { echo denied; false; }'],
  ['see timers', 'grep . /proc/timer_list || { echo denied; false; }', /denied|No such/],
  ['see interrupts', 'grep . /proc/interrupts || { echo denied; false; }'],
  ['see addresses of the kernel', 'grep -v "^00000000" /proc/kallsyms || { echo denied; false; }'],
  ['read kernel messages', 'timeout 1 cat /proc/kmsg || dmesg'],
  [
    "see the host's processes",
    'tr "\\0" " " < "/proc/$HOST_PID/cmdline" | grep sleep',
    /No such|nonexistent|can't open/i,
  ],
  ["see other capsules' mounts", 'grep neighbour /proc/*/mountinfo || { echo denied; false; }'],
  ["see the host's network", 'grep -E "cs[0-9a-f]{6}n|ct[0-9]" /proc/net/dev || { echo denied; false; }'],
  ["see the host's control groups", 'grep -E "caisson/" /proc/self/cgroup || ls /sys/fs/cgroup/memory', /No such/],
]);

const everyDriver = { refusal: refused, everyDriver: true } as const;

const processes: readonly EscapeCase[] = [
  ...kernel('processes', {
    init_descriptor: "take the agent's descriptors",
    init_memory: "read the agent's memory",
    init_environment: "read the agent's environment",
    init_address_space: "open the agent's address space",
    init_map: "see the agent's memory map",
    init_root: "enter through the agent's root",
    init_namespace: "open the agent's namespaces",
    init_link: "see where the agent's socket leads",
    trace_init: 'trace the agent',
    kill_init: 'kill the agent',
    every_right: 'raise its rights',
    ambient_right: 'keep a right it does not have',
    dropped_no_new_privileges: 'take no_new_privs back',
  }),
  {
    group: 'processes',
    attack: 'signal a process of the host',
    script: '/bin/hostile-probe signal_pid $HOST_PID',
    refusal: /No such process/,
    everyDriver: true,
  },
];

const ways: readonly EscapeCase[] = [
  ['find a file of the host above its root', 'find_secret', /No such file/],
  ['find it through an inherited descriptor', 'inherited_descriptors', /Bad file/],
  ['find it through the root and cwd links of /proc', 'process_links', /No such file/],
  ['find it by leaving a chroot', 'chroot_upwards', /No such file/],
].map(([attack, name, refusal]) => ({
  group: 'ways out',
  attack: String(attack),
  script: `/bin/hostile-probe ${name} "$SECRET"`,
  refusal: refusal as RegExp,
  everyDriver: true,
}));

const sockets = kernel('sockets', {
  raw_families: 'open a raw socket of any protocol',
  packet_socket: 'open a packet socket',
  vsock_host: 'reach the hypervisor by vsock',
  crypto_socket: "use the kernel's crypto",
  address_families: 'open a socket of any other family',
  netlink_families: 'speak any netlink but routes, sockets and audit',
  listened_to_host: 'hear of devices of the host',
});

const links = shell('network settings', [
  ['add an address', 'ip addr add 10.99.99.1/24 dev eth0'],
  ['remove its address', 'ip addr flush dev eth0'],
  ['add a route', 'ip route add 10.0.0.0/8 dev eth0'],
  ['take its link down', 'ip link set eth0 down'],
  ['add a link', 'ip link add x type dummy'],
  ['change the link address', 'ip link set eth0 address 02:00:00:00:00:01'],
  ['add a neighbour', 'ip neigh add 10.99.99.1 lladdr 02:00:00:00:00:01 dev eth0'],
]);

/** A refusal comes at once: one that hangs would be half a denial of service. */
const reach = (attack: string, target: string): EscapeCase => ({
  ...everyDriver,
  group: 'network',
  attack,
  script: `timeout 2 nc ${target} </dev/null | grep .`,
  refusal: /refused|unreachable|No route|reset|prohibited|bad address|invalid/i,
});

const network: readonly EscapeCase[] = [
  reach("reach the host's loopback", '127.0.0.1 $HOST_PORT'),
  reach('reach the host at the gateway', "$(ip route | awk '/default/ {print $3}') $HOST_PORT"),
  reach('reach the host at its other addresses', '$HOST_ADDRESS $HOST_PORT'),
  reach('reach another capsule', '$NEIGHBOUR 80'),
  reach('reach a private network behind the host', '$PRIVATE'),
  reach('reach the metadata service', '169.254.169.254 80'),
  reach('reach other link-local addresses', '169.254.1.1 80'),
  reach('reach 10.0.0.0/8', '10.1.2.3 80'),
  reach('reach 172.16.0.0/12', '172.16.0.1 80'),
  reach('reach 192.168.0.0/16', '192.168.0.1 80'),
  reach('reach the carrier-grade range', '100.64.0.1 80'),
  reach('reach this network', '0.0.0.1 80'),
  reach('reach the broadcast address', '255.255.255.255 80'),
  reach('reach IPv6 link-local addresses', 'fe80::1%eth0 80'),
  reach('reach the host over IPv6', '::ffff:127.0.0.1 $HOST_PORT'),
  reach('ask another name server', '$PUBLIC 53'),
  reach('ask another name server over TLS', '$PUBLIC 853'),
  {
    ...everyDriver,
    group: 'network',
    attack: 'ask another name server by datagram',
    script: '/bin/hostile-probe datagram_to_name_server $PUBLIC',
    refusal: /unreachable|No route/,
  },
  {
    ...everyDriver,
    group: 'network',
    attack: 'reach an abstract unix socket of the host',
    script: '/bin/hostile-probe abstract_socket $ABSTRACT',
    refusal: /refused/,
  },
];

/** Every attack whose failure one running capsule shows. */
export const escapeCases: readonly EscapeCase[] = [
  ...ways,
  ...mounts,
  ...namespaces,
  ...calls,
  ...devices,
  ...files,
  ...settings,
  ...reading,
  ...processes,
  ...sockets,
  ...links,
  ...network,
];
