/*
 * Attacks on a capsule's walls, one per name, run as root inside. `hostile-probe <name> [argument]` prints `OPEN` and exits with 0 when
 * the attack works, prints the error and exits with 1 when it is refused, and exits with 3 when it does not know the name.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Numbers that do not depend on the age of the headers; those without a name are the same on every architecture. */
enum {
  NR_open_tree = 428, NR_move_mount = 429, NR_fsopen = 430, NR_clone3 = 435, NR_pidfd_open = 434, NR_pidfd_getfd = 438,
  NR_io_uring_setup = 425, NR_mount_setattr = 442, NR_memfd_secret = 447, NR_future = 900
};

/* musl comes without the kernel's headers. */
enum { NETLINK_SOCK_DIAG = 4, NETLINK_AUDIT = 9, NETLINK_KOBJECT_UEVENT = 15 };
struct netlink_address { unsigned short family, padding; uint32_t pid, groups; };

static const char *argument = "";

/* The attack worked when the call did. */
static int result(long value) { return value < 0 ? errno : 0; }

static int child_of_clone(unsigned long flags) {
  long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
  if (pid < 0) return errno;
  if (pid == 0) _exit(0);
  waitpid((pid_t)pid, NULL, 0);
  return 0;
}

/* Opens a path below each directory that a descriptor or a magic link leads to, and as many steps up as it takes. */
static int find_above(const char *directory) {
  char path[8192];
  int length = snprintf(path, sizeof path, "%s", directory);
  for (int up = 0; up < 32; up++) {
    snprintf(path + length, sizeof path - (size_t)length, "/%s", argument);
    if (access(path, F_OK) == 0) return 0;
    length += snprintf(path + length, sizeof path - (size_t)length, "/..");
  }
  return ENOENT;
}

static int inherited_descriptors(void) {
  char path[64];
  for (int fd = 3; fd < 4096; fd++) {
    if (fcntl(fd, F_GETFD) < 0) continue;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return find_above(path) == 0 ? 0 : EEXIST;
  }
  return EBADF;
}

static int process_links(void) {
  static const char *const links[] = {"root", "cwd"};
  char path[64];
  for (int pid = 1; pid < 64; pid++)
    for (int at = 0; at < 2; at++) {
      snprintf(path, sizeof path, "/proc/%d/%s", pid, links[at]);
      if (find_above(path) == 0) return 0;
    }
  return ENOENT;
}

/* The classic way out of a chroot: a directory kept open outside of it. */
static int chroot_upwards(void) {
  int outside = open("/", O_RDONLY | O_DIRECTORY);
  mkdir("/tmp/jail", 0700);
  if (outside < 0 || chroot("/tmp/jail") < 0 || fchdir(outside) < 0) return errno;
  for (int up = 0; up < 64; up++)
    if (chdir("..") < 0) return errno;
  if (chroot(".") < 0) return errno;
  return result(access(argument, F_OK));
}

static int handle_of_root(void) {
  struct { struct file_handle head; unsigned char bytes[128]; } handle;
  handle.head.handle_bytes = 8;
  handle.head.handle_type = 1; /* inode and generation */
  memset(handle.bytes, 0, sizeof handle.bytes);
  handle.bytes[0] = 2; /* the root directory of ext file systems */
  int somewhere = open("/etc/hosts", O_RDONLY);
  return result(open_by_handle_at(somewhere, &handle.head, O_RDONLY));
}

static int device(mode_t type, unsigned major_number, unsigned minor_number) {
  unlink("/tmp/node");
  if (mknod("/tmp/node", type | 0666, makedev(major_number, minor_number)) < 0) return errno;
  return result(open("/tmp/node", O_RDONLY));
}

static int root_disk(void) {
  struct stat information;
  if (stat("/etc/hosts", &information) < 0) return errno;
  return device(S_IFBLK, major(information.st_dev), minor(information.st_dev));
}

static int whiteout(void) { unlink("/tmp/node"); return result(mknod("/tmp/node", S_IFCHR, 0)); }

static int attribute(const char *name) {
  mkdir("/tmp/opaque", 0755);
  return result(syscall(SYS_setxattr, "/tmp/opaque", name, "y", (size_t)1, 0));
}

static int immutable(void) {
  int flags = 0x10, fd = open("/tmp/immutable", O_RDWR | O_CREAT, 0600);
  return result(ioctl(fd, 0x40086602 /* FS_IOC_SETFLAGS */, &flags));
}

static int freeze(void) { return result(ioctl(open("/", O_RDONLY), 0xc0045877 /* FIFREEZE */, 0)); }

static int init_descriptor(void) {
  long pidfd = syscall(NR_pidfd_open, 1, 0);
  if (pidfd < 0) return errno;
  for (int fd = 0; fd < 64; fd++)
    if (syscall(NR_pidfd_getfd, pidfd, fd, 0) >= 0) return 0;
  return errno;
}

static int init_memory(void) {
  char byte;
  struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
  return result(process_vm_readv(1, &here, 1, &there, 1, 0));
}

static int init_file(const char *name) {
  char path[64];
  snprintf(path, sizeof path, "/proc/1/%s", name);
  return result(open(path, O_RDONLY));
}

/* The same over every thread and every worker the agent forks while it is asked for files. */
static int init_link(void) {
  char target[256];
  return result(readlink("/proc/1/fd/3", target, sizeof target));
}

static int joined(const char *kind) {
  char path[64];
  snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
  int fd = open(path, O_RDONLY);
  return fd < 0 ? errno : result(setns(fd, 0));
}

static int signal_pid(void) { return result(kill(atoi(argument), 0)); }
static int trace_init(void) { return result(ptrace(PTRACE_SEIZE, 1, 0, 0)); }

static int abstract_socket(void) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(argument);
  memcpy(address.sun_path + 1, argument, length);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  return result(connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)));
}

/* A refusal on the way is another error than that of a host that has no server there, which would mean that the way is open. */
static int datagram_to_name_server(void) {
  struct { unsigned short family; unsigned char port[2]; unsigned char host[4]; char rest[8]; } address = {.family = AF_INET, .port = {0, 53}};
  struct timeval patience = {2, 0};
  char byte = 0;
  int fd = socket(AF_INET, SOCK_DGRAM, 0);
  sscanf(argument, "%hhu.%hhu.%hhu.%hhu", address.host, address.host + 1, address.host + 2, address.host + 3);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 || send(fd, &byte, 1, 0) < 0) return errno;
  int error = recv(fd, &byte, 1, 0) < 0 ? errno : 0;
  return error == ECONNREFUSED ? 0 : error;
}

/* Twenty thousand connections to a server that answers none of them. */
static int flows(void) {
  struct { unsigned short family; unsigned char port[2]; unsigned char host[4]; char rest[8]; } address = {.family = AF_INET};
  char byte = 0;
  int sent = 0, fd = socket(AF_INET, SOCK_DGRAM, 0);
  sscanf(argument, "%hhu.%hhu.%hhu.%hhu", address.host, address.host + 1, address.host + 2, address.host + 3);
  for (int port = 1024; port < 21024; port++) {
    address.port[0] = (unsigned char)(port >> 8);
    address.port[1] = (unsigned char)port;
    sent += sendto(fd, &byte, 1, 0, (struct sockaddr *)&address, sizeof address) == 1;
  }
  printf("%d sent\n", sent);
  return ENOBUFS;
}

static int vsock_host(void) { return result(socket(40, SOCK_STREAM, 0)); }

static int clock_back(void) {
  struct timespec time = {1, 0};
  return result(syscall(SYS_clock_settime, 0, &time));
}

static int clock_adjusted(void) {
  struct { unsigned modes; char rest[252]; } change = {.modes = 0x2 /* frequency */};
  return result(syscall(SYS_adjtimex, &change));
}

static int loaded_program(void) {
  uint64_t attributes[16] = {0};
  attributes[0] = 1ULL | 4ULL << 32; /* a hash map with keys of four bytes */
  attributes[1] = 4ULL | 1ULL << 32;
  return result(syscall(SYS_bpf, 0, attributes, sizeof attributes));
}

static int performance(void) {
  uint32_t attributes[32] = {1 /* software */, 128};
  return result(syscall(SYS_perf_event_open, attributes, -1, 0, -1, 0));
}

static int died_of(int (*attack)(void)) {
  pid_t pid = fork();
  int status;
  if (pid == 0) _exit(attack() == 0 ? 0 : 1);
  waitpid(pid, &status, 0);
  if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGSYS ? ENOSYS : EFAULT;
  return WEXITSTATUS(status) == 0 ? 0 : ENOSYS;
}

#ifdef __x86_64__
static int call_of_32_bits(void) {
  int value;
  __asm__ volatile("int $0x80" : "=a"(value) : "a"(20 /* getpid */) : "memory");
  return value > 0 ? 0 : ENOSYS;
}
static int call_of_x32(void) { return result(syscall(0x40000000 | 39 /* getpid */)); }
#else
static int call_of_32_bits(void) { return ENOSYS; }
static int call_of_x32(void) { return ENOSYS; }
#endif

static int every_clone(void) {
  static const unsigned long flags[] = {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, 0x02000000};
  for (unsigned at = 0; at < sizeof flags / sizeof flags[0]; at++)
    if (child_of_clone(flags[at]) == 0) return 0;
  return errno;
}

static int every_unshare(void) {
  static const int flags[] = {CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET, 0x02000000, 0x80};
  for (unsigned at = 0; at < sizeof flags / sizeof flags[0]; at++)
    if (unshare(flags[at]) == 0) return 0;
  return errno;
}

static int every_setns(void) {
  static const char *const kinds[] = {"mnt", "uts", "ipc", "user", "pid", "net", "cgroup"};
  for (unsigned at = 0; at < sizeof kinds / sizeof kinds[0]; at++)
    if (joined(kinds[at]) == 0) return 0;
  return errno;
}

static int clone3(void) {
  uint64_t arguments[8] = {CLONE_NEWUSER};
  long pid = syscall(NR_clone3, arguments, sizeof arguments);
  if (pid == 0) _exit(0);
  return result(pid);
}

/* Every netlink family but those that list addresses, sockets and answer for the absent audit: they reach into the kernel. */
static int netlink_families(void) {
  for (int family = 1; family < 32; family++) {
    if (family == NETLINK_SOCK_DIAG || family == NETLINK_AUDIT) continue;
    if (socket(AF_NETLINK, SOCK_RAW, family) >= 0) return 0;
  }
  return errno;
}

static int address_families(void) {
  for (int family = 0; family < 48; family++) {
    if (family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_NETLINK) continue;
    for (int type = 1; type <= 10; type++) {
      int pair[2];
      if (socket(family, type, 0) >= 0 || socketpair(family, type, 0, pair) >= 0) return 0;
    }
  }
  return errno;
}

static int raw_families(void) {
  for (int protocol = 0; protocol < 256; protocol++)
    if (socket(AF_INET, SOCK_RAW, protocol) >= 0 || socket(AF_INET6, SOCK_RAW, protocol) >= 0) return 0;
  return errno;
}

/* What this program may do, counted: a set bit beyond the capsule's usual ones would be a gain. */
static int effective_rights(void) {
  if (geteuid() == 0 || getegid() == 0) return 0;
  for (int capability = 0; capability < 64; capability++) {
    uint32_t header[2] = {0x20080522, 0}, sets[6] = {0};
    if (syscall(SYS_capget, header, sets) < 0) return errno;
    if (sets[0] | sets[1] | sets[3] | sets[4]) return 0;
  }
  return EPERM;
}

static int set_file_capability(void) {
  uint32_t header[5] = {0x02000001, 0xffffffff, 0, 0xff, 0};
  return result(syscall(SYS_setxattr, argument, "security.capability", header, sizeof header, 0));
}

static int every_right(void) {
  uint32_t header[2] = {0x20080522, 0}, sets[6] = {~0U, ~0U, ~0U, 0x1ff, 0x1ff, 0x1ff};
  return result(syscall(SYS_capset, header, sets));
}

static int ambient_right(void) { return result(prctl(47 /* ambient */, 2 /* raise */, 21 /* sys_admin */, 0, 0)); }
static int dropped_no_new_privileges(void) { return result(prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); }
static int realtime(void) { int priority = 50; return result(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &priority)); }
static int nicer(void) { errno = 0; return result(setpriority(0 /* process */, 0, -20)); }
static int realtime_disk(void) { return result(syscall(SYS_ioprio_set, 1, 0, 1 << 13)); }

static int listened_to_host(void) {
  struct netlink_address address = {.family = AF_NETLINK, .groups = 1};
  int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);
  return fd < 0 ? errno : result(bind(fd, (struct sockaddr *)&address, sizeof address));
}

/* Fills the buffers of datagram sockets that nobody reads, then counts what the kernel really kept, in megabytes. */
static int datagrams(void) {
  static char datagram[60000];
  static int sockets[1500];
  long kept = 0;
  int opened = 0, out = socket(AF_INET, SOCK_DGRAM, 0);
  for (; opened < 1500; opened++) {
    struct { unsigned short family, port; uint32_t host; char rest[8]; } address = {AF_INET, 0, 0, {0}};
    const unsigned char loopback[4] = {127, 0, 0, 1};
    socklen_t size = sizeof address;
    int in = sockets[opened] = socket(AF_INET, SOCK_DGRAM, 0), most = 1 << 30;
    memcpy(&address.host, loopback, sizeof loopback);
    setsockopt(in, SOL_SOCKET, SO_RCVBUF, &most, sizeof most);
    if (in < 0 || bind(in, (struct sockaddr *)&address, size) < 0) break;
    getsockname(in, (struct sockaddr *)&address, &size);
    for (int at = 0; at < 8; at++) sendto(out, datagram, sizeof datagram, MSG_DONTWAIT, (struct sockaddr *)&address, size);
  }
  for (int at = 0; at < opened; at++)
    for (long got; (got = recv(sockets[at], datagram, sizeof datagram, MSG_DONTWAIT)) > 0;) kept += got;
  printf("%ld\n", kept >> 20);
  return ENOBUFS;
}

/* Memory of the kernel: what waits in stream sockets of this capsule, with next to nothing in any process. */
static int streams(void) {
  static char bytes[60000];
  for (int pair[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0;) {
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    while (write(pair[0], bytes, sizeof bytes) > 0) continue;
  }
  return errno;
}

/* Takes all it can get of something and holds it until it is killed. */
static _Noreturn void hold(int (*take)(void)) {
  int count = 0;
  while (take() >= 0) count++;
  printf("holding %d: %s\n", count, strerror(errno));
  fflush(stdout);
  for (;;) pause();
}
/* Every process of it forks on, whatever the limit says. */
static _Noreturn int forks(void) {
  for (;;) fork();
}
static int one_watcher(void) { return inotify_init(); }
static int one_descriptor(void) { return dup(0); }
static int one_pipe(void) {
  int pair[2];
  if (pipe(pair) < 0) return -1;
  fcntl(pair[1], 1031 /* F_SETPIPE_SZ */, 1 << 20);
  return 0;
}
static int watchers(void) { hold(one_watcher); }
static int descriptors(void) { hold(one_descriptor); }
static int pipes(void) { hold(one_pipe); }

/* Marks of an overlay that only the overlay itself may set; as user attributes anybody may, and they must mean nothing. */
static int user_marks(void) {
  static const char *const names[] = {"user.overlay.opaque", "user.overlay.whiteout", "user.overlay.metacopy"};
  for (unsigned at = 0; at < 3; at++) syscall(SYS_setxattr, argument, names[at], "y", (size_t)1, 0);
  return result(syscall(SYS_setxattr, argument, "user.overlay.redirect", "/root", (size_t)5, 0));
}

/* In the place of the agent: answers whoever connects with a greeting and then with a frame far beyond the limit, over and over. */
static _Noreturn void act_as_agent(void) {
  static unsigned char junk[65536];
  static const unsigned char greeting[60] = {0x81, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0, 'C', 'A', 'I', 'S', 'S', 'O', 'N', 0, 1};
  memset(junk, 0xff, sizeof junk);
  signal(SIGPIPE, SIG_IGN);
  for (;;) {
    int peer = accept(3, NULL, NULL);
    if (peer < 0) pause();
    if (write(peer, greeting, sizeof greeting) < 0) continue;
    usleep(300000);
    while (write(peer, junk, sizeof junk) > 0) continue;
    close(peer);
  }
}

static int open_as_agent(const char *path, char **program) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4) < 0) return 1;
  if (fd != 3) dup2(fd, 3);
  execvp(program[0], program);
  return 1;
}

#define SIMPLE(name, expression) static int name(void) { return result(expression); }
SIMPLE(mount_tmpfs, syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, 0))
SIMPLE(mount_proc, syscall(SYS_mount, "proc", "/tmp", "proc", 0, 0))
SIMPLE(mount_sysfs, syscall(SYS_mount, "sysfs", "/tmp", "sysfs", 0, 0))
SIMPLE(mount_cgroup, syscall(SYS_mount, "cgroup", "/tmp", "cgroup", 0, "memory"))
SIMPLE(mount_overlay, syscall(SYS_mount, "overlay", "/tmp", "overlay", 0, "lowerdir=/etc:/bin"))
SIMPLE(mount_devpts, syscall(SYS_mount, "devpts", "/tmp", "devpts", 0, 0))
SIMPLE(mount_bind, syscall(SYS_mount, "/", "/tmp", 0, 4096, 0))
SIMPLE(remount_agent, syscall(SYS_mount, 0, "/.caisson/agent", 0, 4096 | 32, 0))
SIMPLE(remount_sysctl, syscall(SYS_mount, 0, "/proc/sys", 0, 4096 | 32, 0))
SIMPLE(propagate, syscall(SYS_mount, 0, "/", 0, 1 << 20 | 16384, 0))
SIMPLE(umount_sysctl, syscall(SYS_umount2, "/proc/sys", 2))
SIMPLE(umount_resolv, syscall(SYS_umount2, "/etc/resolv.conf", 2))
SIMPLE(umount_root, syscall(SYS_umount2, "/", 2))
SIMPLE(pivot, syscall(SYS_pivot_root, "/tmp", "/tmp"))
SIMPLE(new_fsopen, syscall(NR_fsopen, "tmpfs", 0))
SIMPLE(new_open_tree, syscall(NR_open_tree, -100, "/", 1))
SIMPLE(new_move_mount, syscall(NR_move_mount, -100, "/etc", -100, "/tmp", 0))
SIMPLE(new_setattr, syscall(NR_mount_setattr, -100, "/", 0, "", 0))
SIMPLE(init_module, syscall(SYS_init_module, "", 0, ""))
SIMPLE(finit_module, syscall(SYS_finit_module, 0, "", 0))
SIMPLE(delete_module, syscall(SYS_delete_module, "overlay", 0))
SIMPLE(kexec, syscall(SYS_kexec_load, 0, 0, 0, 0))
SIMPLE(user_faults, syscall(SYS_userfaultfd, 0x1))
SIMPLE(session_keys, syscall(SYS_keyctl, 0, -3, 1))
SIMPLE(added_key, syscall(SYS_add_key, "user", "name", "value", 5, -3))
SIMPLE(requested_key, syscall(SYS_request_key, "user", "name", 0, -3))
SIMPLE(rings, syscall(NR_io_uring_setup, 8, (char[256]){0}))
SIMPLE(future_call, syscall(NR_future))
SIMPLE(secret_memory, syscall(NR_memfd_secret, 0))
SIMPLE(restarted, syscall(SYS_reboot, 0xfee1dead, 672274793, 0, 0)) /* takes Ctrl-Alt-Del away, no more */
SIMPLE(swap_on, syscall(SYS_swapon, "/etc/hosts", 0))
SIMPLE(kernel_log, syscall(SYS_syslog, 10, 0, 0))
SIMPLE(accounting, syscall(SYS_acct, "/tmp/accounting"))
SIMPLE(host_name, sethostname("taken", 5))
SIMPLE(domain_name, syscall(SYS_setdomainname, "taken", 5))
SIMPLE(watch_all, syscall(SYS_fanotify_init, 0, 0))
SIMPLE(quota, syscall(SYS_quotactl, 0x80000100, 0, 0, 0))
SIMPLE(hang_up, syscall(SYS_vhangup))
SIMPLE(other_personality, syscall(SYS_personality, 0x400000))
SIMPLE(packet_socket, socket(17, SOCK_RAW, 0))
SIMPLE(crypto_socket, socket(38, SOCK_SEQPACKET, 0))
SIMPLE(kill_init, (kill(1, SIGKILL), usleep(100000), kill(1, 0) == 0 ? (errno = EPERM, -1) : 0))
#ifdef __x86_64__
SIMPLE(ports, syscall(SYS_iopl, 3))
#else
SIMPLE(ports, (errno = ENOSYS, -1))
#endif

static int disk_of_host(void) { return root_disk(); }
static int memory_device(void) { return device(S_IFCHR, 1, 1); }
static int kernel_messages(void) { return device(S_IFCHR, 1, 11); }
static int kvm_device(void) { return device(S_IFCHR, 10, 232); }
static int fuse_device(void) { return device(S_IFCHR, 10, 229); }
static int tunnel_device(void) { return device(S_IFCHR, 10, 200); }
static int loop_device(void) { return device(S_IFBLK, 7, 0); }
static int trusted_opaque(void) { return attribute("trusted.overlay.opaque"); }
static int trusted_redirect(void) { return attribute("trusted.overlay.redirect"); }
static int init_environment(void) { return init_file("environ"); }
static int init_address_space(void) { return init_file("mem"); }
static int init_root(void) { return init_file("root/etc"); }
static int init_namespace(void) { return init_file("ns/mnt"); }
static int init_map(void) { return init_file("maps"); }
static int dead_32(void) { return died_of(call_of_32_bits); }
static int dead_x32(void) { return died_of(call_of_x32); }
static int find_secret(void) { return find_above("/proc/self/root"); }

static const struct {
  const char *name;
  int (*attack)(void);
} attacks[] = {
#define A(function) {#function, function}
  A(mount_tmpfs), A(mount_proc), A(mount_sysfs), A(mount_cgroup), A(mount_overlay), A(mount_devpts), A(mount_bind), A(remount_agent),
  A(remount_sysctl), A(propagate), A(umount_sysctl), A(umount_resolv), A(umount_root), A(pivot), A(new_fsopen), A(new_open_tree),
  A(new_move_mount), A(new_setattr), A(init_module), A(finit_module), A(delete_module), A(kexec), A(user_faults), A(session_keys),
  A(added_key), A(requested_key), A(rings), A(future_call), A(secret_memory), A(restarted), A(swap_on), A(kernel_log), A(accounting),
  A(host_name), A(domain_name), A(watch_all), A(quota), A(hang_up), A(other_personality), A(packet_socket), A(crypto_socket), A(kill_init),
  A(ports), A(every_clone), A(every_unshare), A(every_setns), A(clone3), A(netlink_families), A(address_families), A(raw_families),
  A(effective_rights), A(set_file_capability), A(every_right), A(ambient_right), A(dropped_no_new_privileges), A(realtime), A(nicer),
  A(realtime_disk), A(listened_to_host), A(datagrams), A(streams), A(forks), A(watchers), A(descriptors), A(pipes), A(user_marks), A(disk_of_host), A(memory_device), A(kernel_messages), A(kvm_device), A(fuse_device),
  A(tunnel_device), A(loop_device), A(whiteout), A(trusted_opaque), A(trusted_redirect), A(immutable), A(freeze),
  A(init_descriptor), A(init_memory), A(init_environment), A(init_address_space), A(init_root), A(init_namespace), A(init_map),
  A(init_link), A(trace_init), A(signal_pid), A(abstract_socket), A(vsock_host), A(flows), A(datagram_to_name_server), A(clock_back), A(clock_adjusted), A(loaded_program),
  A(performance), A(dead_32), A(dead_x32), A(inherited_descriptors), A(process_links), A(chroot_upwards), A(handle_of_root), A(find_secret),
#undef A
};

int main(int count, char **arguments) {
  if (count > 1 && strcmp(arguments[1], "serve") == 0) act_as_agent();
  if (count > 4 && strcmp(arguments[1], "listen") == 0) return open_as_agent(arguments[2], arguments + 4);
  if (count > 2) argument = arguments[2];
  for (unsigned at = 0; count > 1 && at < sizeof attacks / sizeof attacks[0]; at++) {
    if (strcmp(attacks[at].name, arguments[1]) != 0) continue;
    int error = attacks[at].attack();
    puts(error == 0 ? "OPEN" : strerror(error));
    return error == 0 ? 0 : 1;
  }
  fputs("unknown attack\n", stderr);
  return 3;
}
