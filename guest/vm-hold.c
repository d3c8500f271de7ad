/* The programs of a machine are in a control group of their own, beside the agent: they can be made to stand while it goes on. Clones
 * of a machine whose programs stand go on only once they are machines of their own. */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

enum { STANDS_WITHIN_MS = 5000 };

static bool write_to(const char *name, const char *text) {
  char path[128];
  if ((size_t)snprintf(path, sizeof path, CAPSULE_GROUP "/%s", name) >= sizeof path) return false;
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
  if (fd >= 0) close(fd);
  return done;
}

static bool do_stand(void) {
  char text[256];
  int fd = open(CAPSULE_GROUP "/programs/cgroup.events", O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  text[size < 0 ? 0 : size] = 0;
  return strstr(text, "frozen 1") != NULL;
}

void vm_join_programs(void) { write_to("programs/cgroup.procs", "0"); }

int vm_hold(void) {
  /* Not itself. */
  if (!write_to("cgroup.procs", "0") || !write_to("programs/cgroup.freeze", "1")) return 1;
  for (int waited = 0; waited < STANDS_WITHIN_MS; waited++) {
    if (do_stand()) return 0;
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  vm_release();
  return 1;
}

void vm_release(void) { write_to("programs/cgroup.freeze", "0"); }
