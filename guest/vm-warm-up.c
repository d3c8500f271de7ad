/* Under emulation what ran once is quicker the next time. A machine that nobody uses yet runs a program of its disk, such that nobody
 * sees it afterwards: nothing can be written, reached or left running, whatever the program is. */
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#ifndef SYS_mount_setattr
#define SYS_mount_setattr 442
#endif

enum { EVERYTHING_BELOW = 0x8000, READ_ONLY = 1, NOBODY = 65534 };

static bool forbid_writing(void) {
  struct {
    uint64_t set, clear, propagation, namespace;
  } change = {.set = READ_ONLY, .propagation = MS_PRIVATE};
  return syscall(SYS_mount_setattr, AT_FDCWD, "/", EVERYTHING_BELOW, &change, sizeof change) == 0;
}

static bool become_nobody(void) {
  return setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_PDEATHSIG, SIGKILL) == 0;
}

/* 0 also when the disk has no such program: then its machines do not profit from it either. */
int vm_warm_up(char **program) {
  int status, apart = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS;
  if (!program[0] || unshare(apart) < 0 || !forbid_writing()) return 1;
  pid_t child = fork();
  if (child == 0) {
    if (become_nobody()) execv(program[0], program);
    _exit(1);
  }
  return child > 0 && waitpid(child, &status, 0) == child ? 0 : 1;
}
