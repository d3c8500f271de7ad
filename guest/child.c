/* Everything here runs in the forked child. What may block on the image (its files, its PATH) blocks nobody else. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif
#ifndef SYS_close_range
#define SYS_close_range 436
#endif

enum { STATUS_FD = 3, FD_MAX = 4096 };
static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* To try every number there could be takes a gVisor of 2024, which has no close_range, some 20 ms. */
static int highest_fd(void) {
  DIR *directory = opendir("/proc/self/fd");
  int highest = directory ? 0 : FD_MAX;
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    int fd = atoi(entry->d_name);
    if (fd > highest) highest = fd;
  }
  if (directory) closedir(directory);
  return highest;
}

void close_from(int from) {
  if (syscall(SYS_close_range, (unsigned)from, ~0U, 0) == 0) return;
  for (int fd = highest_fd(); fd >= from; fd--) close(fd);
}

/* Tells the agent why there will be no program: the code, then the words. */
static _Noreturn void refuse(uint16_t code, const char *what, const char *why) {
  uint8_t report[2 + MESSAGE_BYTES_MAX];
  put16(report, code);
  int length = snprintf((char *)report + 2, MESSAGE_BYTES_MAX, "%.400s: %s", what, why);
  if (length < 0) length = 0;
  if (length >= MESSAGE_BYTES_MAX) length = MESSAGE_BYTES_MAX - 1;
  ssize_t ignored = write(STATUS_FD, report, 2 + (size_t)length);
  (void)ignored;
  _exit(127);
}

static _Noreturn void refuse_errno(const char *what, int number) { refuse(error_code(number), what, strerror(number)); }

/* For want of memory the kernel ends what the agent started, not the agent. What is not dumpable may not write its own settings. */
static void go_first(void) {
  prctl(PR_SET_DUMPABLE, 1);
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  ssize_t ignored = fd < 0 ? 0 : write(fd, "500", 3);
  (void)ignored;
  if (fd >= 0) close(fd);
  prctl(PR_SET_DUMPABLE, 0);
}

/* Descriptors of the agent are all above 2, so the three standard ones can be laid over the old without a clash. */
static int take_stdio(const struct child *child) {
  int in = child->stdin_fd, out = child->stdout_fd, err = child->stderr_fd;
  if (child->terminal_fd >= 0) {
    in = out = err = ioctl(child->terminal_fd, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    if (in < 0 || ioctl(in, TIOCSCTTY, 0) < 0) return errno;
  } else if (in < 0) {
    in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (in < 0) return errno;
  }
  if (dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0) return errno;
  return 0;
}

static void take_account(const struct child *child) {
  static struct account account;
  const char *why = "";
  const char *spec = *child->user ? child->user : "0";
  uint16_t code = account_find(spec, &account, &why);
  if (code) refuse(code, spec, why);
  if (child->terminal_fd >= 0 && fchown(0, account.uid, (gid_t)-1) < 0 && errno != EPERM) refuse_errno("terminal", errno);
  bool same = account.uid == geteuid() && account.gid == getegid();
  if (setgroups((size_t)account.group_count, account.groups) < 0 && !(same && errno == EPERM)) refuse_errno(spec, errno);
  if (setgid(account.gid) < 0 || setuid(account.uid) < 0) refuse_errno(spec, errno);
}

/* Tries one directory of the PATH; returns only when the program is not to be run from there. */
static int try_directory(const struct child *child, const char *directory, size_t length) {
  static char path[PATH_BYTES_MAX + 1];
  int size = length == 0 ? snprintf(path, sizeof path, "./%s", child->argv[0])
                         : snprintf(path, sizeof path, "%.*s/%s", (int)length, directory, child->argv[0]);
  if (size < 0 || (size_t)size >= sizeof path) return ENAMETOOLONG;
  execve(path, child->argv, child->env);
  return errno;
}

static const char *path_of(char **env) {
  for (; *env; env++)
    if (strncmp(*env, "PATH=", 5) == 0) return *env + 5;
  return default_path;
}

static int run(const struct child *child) {
  int failure = ENOENT;
  if (!*child->argv[0]) return ENOENT;
  if (strchr(child->argv[0], '/')) {
    execve(child->argv[0], child->argv, child->env);
    return errno;
  }
  for (const char *at = path_of(child->env);; at++) {
    size_t length = strcspn(at, ":");
    int error = length > PATH_BYTES_MAX ? ENAMETOOLONG : try_directory(child, at, length);
    if (error == EACCES) failure = EACCES;
    else if (error != ENOENT && error != ENOTDIR && error != ENAMETOOLONG) return error;
    at += length;
    if (!*at) return failure;
  }
}

_Noreturn void child_exec(const struct child *child) {
  sigset_t none;
  signal(SIGPIPE, SIG_DFL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  bool inside = getppid() == 1;
  /* Of an init nothing is left behind; the agent out on the host takes its programs along as well. */
  if (!inside) prctl(PR_SET_PDEATHSIG, SIGKILL);
  setsid();
  int failure = take_stdio(child);
  if (child->status_fd != STATUS_FD) dup3(child->status_fd, STATUS_FD, O_CLOEXEC);
  close_from(STATUS_FD + 1);
  if (failure) refuse_errno(child->terminal_fd >= 0 ? "terminal" : "standard streams", failure);
  if (vm_is_machine()) vm_join_programs();
  if (inside) go_first();
  take_account(child);
  umask(022);
  if (*child->cwd != '/') refuse(E_INVALID_ARGUMENT, "working directory", "not an absolute path");
  if (chdir(child->cwd) < 0) {
    failure = errno;
    refuse(error_code(failure), child->cwd, failure == ENOENT ? "no such working directory" : strerror(failure));
  }
  failure = run(child);
  refuse(error_code(failure), child->argv[0], failure == ENOENT ? "program not found" : strerror(failure));
}
