#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "agent.h"

static struct {
  int fd, slot;
} drains[DRAINS_MAX];
static size_t drain_count;

static void drain_remove(size_t index) {
  close(drains[index].fd);
  memmove(&drains[index], &drains[index + 1], (drain_count - index - 1) * sizeof drains[0]);
  drain_count--;
}

void drain_add(int fd) {
  if (drain_count == DRAINS_MAX) drain_remove(0);
  drains[drain_count].fd = fd;
  drains[drain_count].slot = -1;
  drain_count++;
}

void drain_poll(void) {
  for (size_t i = 0; i < drain_count; i++) drains[i].slot = poll_add(drains[i].fd, POLLIN);
}

void drain_events(void) {
  static uint8_t nowhere[65536];
  for (size_t i = drain_count; i-- > 0;) {
    if (!poll_ready(drains[i].slot)) continue;
    ssize_t got = read(drains[i].fd, nowhere, sizeof nowhere);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) drain_remove(i);
  }
}
