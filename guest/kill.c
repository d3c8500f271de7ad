/* A shell with job control gives each job a group of its own, so a kill that must not be escaped goes by session as well. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

/* The session of a process as /proc tells it, or -1. The name may hold any byte, so the fields count from the last ')'. */
static long session_of(long pid) {
  char path[32], line[512];
  snprintf(path, sizeof path, "/proc/%ld/stat", pid);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -1;
  ssize_t got = read(fd, line, sizeof line - 1);
  close(fd);
  if (got <= 0) return -1;
  line[got] = 0;
  /* ") S parent group session …" */
  char *at = strrchr(line, ')');
  if (!at || strlen(at) < 4 || at[2] == 'Z') return -1;
  strtol(at + 3, &at, 10);
  strtol(at, &at, 10);
  return strtol(at, NULL, 10);
}

static int kill_listed(const char *entries, long length, pid_t session) {
  int killed = 0;
  for (long at = 0; at + 19 < length;) {
    uint16_t size;
    memcpy(&size, entries + at + 16, sizeof size); /* struct linux_dirent64: ino, off, reclen, type, name */
    if (size < 20) break;
    long pid = strtol(entries + at + 19, NULL, 10);
    if (pid > 1 && pid != getpid() && session_of(pid) == session && kill((pid_t)pid, SIGKILL) == 0) killed++;
    at += size;
  }
  return killed;
}

static int kill_session_once(pid_t session) {
  static _Alignas(8) char entries[4096];
  int killed = 0, fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return 0;
  for (;;) {
    long length = syscall(SYS_getdents64, fd, entries, sizeof entries);
    if (length <= 0) break;
    killed += kill_listed(entries, length, session);
  }
  close(fd);
  return killed;
}

void kill_group(pid_t group, int number) {
  if (group <= 1) return;
  kill(-group, number);
  /* A few rounds, because a process may fork while it is being looked for. */
  for (int round = 0; number == SIGKILL && round < 4; round++)
    if (kill_session_once(group) == 0) break;
}
