/* Runs on the host: how fast the processor's time stamp counter is, which a guest under emulation cannot find out. */
#include <stdio.h>
#include <time.h>

#include "agent.h"

#if defined(__x86_64__)
#include <x86intrin.h>

enum { MEASURE_NS = 40000000 };

static int64_t clock_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC_RAW, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int vm_tsc(void) {
  int64_t from_ns = clock_ns(), now_ns;
  uint64_t from = __rdtsc();
  nanosleep(&(struct timespec){.tv_nsec = MEASURE_NS}, NULL);
  now_ns = clock_ns();
  printf("%lld\n", (long long)((__rdtsc() - from) * 1000000 / (uint64_t)(now_ns - from_ns)));
  return 0;
}
#else
int vm_tsc(void) {
  puts("0");
  return 0;
}
#endif
