/* Runs on the host: takes everything from a machine's QEMU that it does not need, then becomes it. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "agent.h"

enum { CAPABILITIES = 64 };

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "caisson-agent: jail: %s: %s\n", what, strerror(errno));
  exit(125);
}

static void write_own_pid(const char *path) {
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) < 0) fail(path);
  close(fd);
}

static void join_network(const char *path) {
  if (strcmp(path, "none") == 0) {
    if (unshare(CLONE_NEWNET) < 0) fail("network namespace");
    return;
  }
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) < 0) fail(path);
  close(fd);
}

static void bind(const char *source, const char *root, const char *target, unsigned long flags) {
  char path[PATH_MAX];
  if (snprintf(path, sizeof path, "%s%s", root, target) >= (int)sizeof path) fail(target);
  if (mount(source, path, NULL, MS_BIND, NULL) < 0) fail(path);
  if (flags && mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | flags, NULL) < 0) fail(path);
}

/* A file to be mapped as a machine's memory, which is no descriptor's business with QEMU. */
static void show_memory(const char *root, const char *ram) {
  char work[PATH_MAX], path[PATH_MAX];
  if (snprintf(work, sizeof work, "%s/work", root) >= (int)sizeof work) fail(root);
  if (snprintf(path, sizeof path, "%s/ram", work) >= (int)sizeof path) fail(root);
  if (mount("work", work, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=4k") < 0) fail(work);
  int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0);
  if (fd < 0) fail(path);
  close(fd);
  if (mount(ram, path, NULL, MS_BIND, NULL) < 0) fail(ram);
}

static void enter(const char *root, const char *run_dir, const char *ram) {
  if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS) < 0) fail("namespaces");
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) fail("mounts");
  if (mount(root, root, NULL, MS_BIND, NULL) < 0) fail(root);
  bind("/dev/null", root, "/dev/null", 0);
  bind("/dev/urandom", root, "/dev/urandom", 0);
  bind(run_dir, root, "/run", MS_NOSUID | MS_NODEV | MS_NOEXEC);
  if (strcmp(ram, "none") != 0) show_memory(root, ram);
  if (mount(NULL, root, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID, NULL) < 0) fail(root);
  if (chroot(root) < 0 || chdir("/") < 0) fail(root);
}

static void become(const char *user) {
  uid_t id = (uid_t)strtoul(user, NULL, 10);
  if (id == 0) {
    errno = EINVAL;
    fail("user");
  }
  if (setgroups(0, NULL) < 0 || setresgid(id, id, id) < 0) fail("group");
  for (unsigned long capability = 0; capability < CAPABILITIES; capability++) prctl(PR_CAPBSET_DROP, capability);
  if (setresuid(id, id, id) < 0) fail("user");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) fail("privileges");
}

int run_jail(char **words) {
  char *user = words[0], *network = words[1], *root = words[2], *run_dir = words[3], *ram = words[4];
  for (words += 5; *words && strcmp(*words, "--") != 0; words++) write_own_pid(*words);
  if (!*words || !words[1]) return 2;
  /* Neither a terminal's signals nor the end of the host reach a machine. */
  setsid();
  signal(SIGPIPE, SIG_IGN);
  join_network(network);
  enter(root, run_dir, ram);
  become(user);
  execv(words[1], words + 1);
  fail(words[1]);
}
