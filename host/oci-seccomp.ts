import { AppError } from '@caisson/contracts/app-error';

/**
 * System calls a build or a service has a use for. A new call of a future kernel is absent until somebody lists it: `ENOSYS` makes
 * libraries fall back to older calls. Absent on purpose besides `refusedCalls`: io_uring (most kernel escapes of late), clone3 (its
 * flags are behind a pointer, so namespaces could not be refused; libraries fall back to clone), and calls nobody uses any more.
 */
const allowedCalls = `
  read write open close stat fstat lstat poll lseek mmap mprotect munmap brk rt_sigaction rt_sigprocmask rt_sigreturn ioctl pread64
  pwrite64 readv writev access pipe select sched_yield mremap msync mincore madvise shmget shmat shmctl dup dup2 pause nanosleep
  getitimer alarm setitimer getpid sendfile connect accept sendto recvfrom sendmsg recvmsg shutdown bind listen getsockname
  getpeername setsockopt getsockopt fork vfork execve exit wait4 kill uname semget semop semctl shmdt msgget msgsnd msgrcv
  msgctl fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat link unlink symlink
  readlink chmod fchmod chown fchown lchown umask gettimeofday getrlimit getrusage sysinfo times ptrace getuid getgid setuid setgid
  geteuid getegid setpgid getppid getpgrp setsid setreuid setregid getgroups setgroups setresuid getresuid setresgid getresgid
  getpgid setfsuid setfsgid getsid capget capset rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_sigsuspend sigaltstack utime mknod
  statfs fstatfs getpriority setpriority sched_setparam sched_getparam sched_setscheduler sched_getscheduler
  sched_get_priority_max sched_get_priority_min sched_rr_get_interval mlock munlock mlockall munlockall modify_ldt prctl arch_prctl
  setrlimit chroot sync gettid readahead setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr
  removexattr lremovexattr fremovexattr tkill time futex sched_setaffinity sched_getaffinity set_thread_area get_thread_area
  io_setup io_destroy io_getevents io_submit io_cancel epoll_create remap_file_pages getdents64 set_tid_address restart_syscall
  semtimedop fadvise64 timer_create timer_settime timer_gettime timer_getoverrun timer_delete clock_gettime clock_getres
  clock_nanosleep exit_group epoll_wait epoll_ctl tgkill utimes mbind set_mempolicy get_mempolicy mq_open mq_unlink mq_timedsend
  mq_timedreceive mq_notify mq_getsetattr waitid ioprio_set ioprio_get inotify_init inotify_add_watch inotify_rm_watch openat
  mkdirat mknodat fchownat futimesat newfstatat unlinkat renameat linkat symlinkat readlinkat fchmodat faccessat pselect6 ppoll
  set_robust_list get_robust_list splice tee sync_file_range vmsplice utimensat epoll_pwait signalfd timerfd_create eventfd
  fallocate timerfd_settime timerfd_gettime accept4 signalfd4 eventfd2 epoll_create1 dup3 pipe2 inotify_init1 preadv pwritev
  rt_tgsigqueueinfo recvmmsg prlimit64 name_to_handle_at syncfs sendmmsg getcpu process_vm_readv process_vm_writev kcmp
  sched_setattr sched_getattr renameat2 seccomp getrandom memfd_create execveat membarrier mlock2 copy_file_range preadv2 pwritev2
  pkey_mprotect pkey_alloc pkey_free statx io_pgetevents rseq pidfd_send_signal pidfd_open close_range openat2 pidfd_getfd
  faccessat2 process_madvise epoll_pwait2 landlock_create_ruleset landlock_add_rule landlock_restrict_self process_mrelease
  futex_waitv set_mempolicy_home_node fchmodat2 cachestat map_shadow_stack futex_wake futex_wait futex_requeue adjtimex`;

/** Named only so that they fail with `EPERM`, which programs report as what it is. */
const refusedCalls = `
  mount umount2 pivot_root mount_setattr move_mount open_tree fsopen fsconfig fsmount fspick unshare setns
  add_key request_key keyctl bpf perf_event_open userfaultfd kexec_load kexec_file_load init_module finit_module delete_module
  swapon swapoff reboot syslog acct quotactl quotactl_fd open_by_handle_at fanotify_init fanotify_mark lookup_dcookie vhangup
  settimeofday clock_settime clock_adjtime sethostname setdomainname iopl ioperm move_pages migrate_pages memfd_secret
  nfsservctl`;

const errno = { EPERM: 1, ENOSYS: 38 } as const;

/** Every CLONE_NEW* flag: a namespace of its own would hand out capabilities over kernel parts the capsule has no business with. */
const namespaceFlags = 0x7e020000;

/**
 * Stream, datagram and sequential sockets of unix, inet and inet6: no raw or packet sockets, no vsock (it reaches the hypervisor), none
 * of the kernel's crypto. The low four bits of the second argument are the type. Of netlink only routes, sockets and audit (which
 * answers that there is none; programs that change users insist on asking): the others reach deep into the kernel, and one tells of
 * every device that comes and goes on the host.
 */
const socketRules = [
  ...[1, 2, 10].flatMap((family) => [1, 2, 5].map((type) => [equals(0, family), masked(1, 0xf, type)])),
  ...[0, 4, 9].map((protocol) => [equals(0, 16), equals(2, protocol)]),
];

/** Plain Linux, its 32-bit personality, without address randomization (debuggers, sanitizers), and the query. */
const personalities = [0x0, 0x8, 0x40000, 0xffffffff];

const architectures: Partial<Record<NodeJS.Architecture, string>> = {
  x64: 'SCMP_ARCH_X86_64',
  arm64: 'SCMP_ARCH_AARCH64',
};

/**
 * The system call filter of every capsule in OCI form. Only the native architecture is let in: 32-bit programs would bypass the
 * checks of arguments. Throws `runtime_unavailable` on an architecture it was not written for.
 */
export function seccompProfile(architecture: NodeJS.Architecture): object {
  const name = architectures[architecture];
  if (name === undefined) {
    throw new AppError('runtime_unavailable', `capsules need an x86-64 or arm64 machine; this one is ${architecture}`);
  }
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: errno.ENOSYS,
    architectures: [name],
    syscalls: [
      { names: words(allowedCalls), action: 'SCMP_ACT_ALLOW' },
      { names: words(refusedCalls), action: 'SCMP_ACT_ERRNO', errnoRet: errno.EPERM },
      ...socketRules.map((args) => allowWhere('socket', args)),
      allowWhere('socketpair', [equals(0, 1)]),
      ...personalities.map((value) => allowWhere('personality', [equals(0, value)])),
      allowWhere('clone', [masked(0, namespaceFlags, 0)]),
    ],
  };
}

/**
 * What is refused with `EPERM`, and nothing else: for a runtime that knows no other refusal, and whose kernel has few calls. One that
 * is refused so although it is merely absent would break whoever falls back to another, as every start of a thread does.
 */
export function refusalProfile(): object {
  const action = { action: 'SCMP_ACT_ERRNO', errnoRet: errno.EPERM };
  const flags = Array.from({ length: 32 }, (_, bit) => 2 ** bit).filter((flag) => (namespaceFlags & flag) !== 0);
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [
      { names: words(refusedCalls), ...action },
      ...flags.map((flag) => ({ names: ['clone'], args: [masked(0, flag, flag)], ...action })),
    ],
  };
}

function allowWhere(call: string, args: readonly object[]): object {
  return { names: [call], action: 'SCMP_ACT_ALLOW', args };
}

function equals(index: number, value: number): object {
  return { index, value, op: 'SCMP_CMP_EQ' };
}

function masked(index: number, mask: number, value: number): object {
  return { index, value: mask, valueTwo: value, op: 'SCMP_CMP_MASKED_EQ' };
}

function words(text: string): readonly string[] {
  return text.trim().split(/\s+/);
}
