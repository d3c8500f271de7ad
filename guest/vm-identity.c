/* Clones wake with one memory: what they must not have in common is made different before anything runs in them. */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

/* Of <linux/random.h>, which not every libc brings. */
#define ADD_ENTROPY _IOW('R', 0x03, int[2])
#define RESEED _IO('R', 0x07)

enum { WORDS_MAX = 64 };

/* The kernel mixes the bytes in and makes everybody's next random number of them. */
static bool reseed(const uint8_t *entropy) {
  struct {
    int bits, size;
    uint8_t bytes[ENTROPY_BYTES];
  } pool = {.bits = ENTROPY_BYTES * 8, .size = ENTROPY_BYTES};
  memcpy(pool.bytes, entropy, ENTROPY_BYTES);
  int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
  bool done = fd >= 0 && ioctl(fd, ADD_ENTROPY, &pool) == 0 && ioctl(fd, RESEED) == 0;
  if (fd >= 0) close(fd);
  return done;
}

static bool set_clock(uint64_t ns) {
  struct timespec now = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
  return clock_settime(CLOCK_REALTIME, &now) == 0;
}

/* Nanoseconds since 1970, entropy, then words as at boot, each with a NUL behind it. */
void identity_frame(const struct frame *frame) {
  static char text[FRAME_PAYLOAD_MAX + 1];
  char *words[WORDS_MAX + 1];
  size_t length = frame->length - IDENTITY_BYTES, count = 0;
  memcpy(text, frame->payload + IDENTITY_BYTES, length);
  text[length] = 0;
  for (size_t at = 0; at < length && count < WORDS_MAX; at += strlen(text + at) + 1) words[count++] = text + at;
  words[count] = NULL;
  bool done = getpid() == 1 && reseed(frame->payload + 8) && set_clock(get64(frame->payload));
  session_start();
  done = done && vm_become(words);
  if (done) vm_release();
  if (done) channel_commit(A_DONE, 0, frame->id, 0);
  else channel_error(A_REQUEST_ERROR, frame->id, E_INVALID_ARGUMENT, "only a machine has an identity");
}
