#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

enum {
  IN_BYTES = 2 * (FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX),
  OUT_BYTES = 4 * (FRAME_HEADER_BYTES + FRAME_PAYLOAD_MAX),
  REPLY_BYTES = MESSAGE_BYTES_MAX + 64, /* no inbound frame is answered at once by more than this */
  PORT_RETRY_MS = 100
};

static struct {
  int listener;         /* -1 when the transport is a port */
  bool is_port;         /* a byte stream that does not tell when its user at the other end is replaced */
  const char *path;     /* of the port's device; NULL when it is a pair of pipes that are open for good */
  int64_t port_try_at;  /* when a port at whose other end is nobody is tried again */
  int fd, out_fd;       /* the same but for pipes */
  bool greeted;
  uint32_t generation; /* counts the peers, so that a handler's caller sees that its peer is gone */
  int listener_slot, fd_slot, out_slot;
  size_t in_length, out_start, out_end;
} channel = {.listener = -1, .fd = -1, .out_fd = -1, .listener_slot = -1, .fd_slot = -1, .out_slot = -1};
static uint8_t in[IN_BYTES], out[OUT_BYTES];

static void channel_forget_peer(void) {
  channel.greeted = false;
  channel.out_start = channel.out_end = 0;
  channel.generation++;
  session_reset();
}

/*
 * Closed, the port would throw away what a host that comes at this moment has already sent. Nor is the peer forgotten: news of the old
 * host's end may come after the new one's greeting, which forgets it anyway.
 */
static void channel_rest(void) { channel.port_try_at = now_ms() + PORT_RETRY_MS; }

static void channel_close(void) {
  bool stays = channel.is_port && !channel.path;
  if (channel.is_port) channel_rest();
  if (channel.fd >= 0 && !stays) {
    close(channel.fd);
    channel.fd = channel.out_fd = -1;
  }
  channel.in_length = 0;
  channel_forget_peer();
}

void channel_open_listener(int fd) {
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  channel.listener = fd;
}

void channel_open_port(const char *path) {
  channel.is_port = true;
  channel.path = path;
  channel.fd = channel.out_fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (channel.fd < 0) channel_rest();
}

void channel_open_pipes(int in_fd, int out_fd) {
  channel.is_port = true;
  channel.fd = in_fd;
  channel.out_fd = out_fd;
  fcntl(in_fd, F_SETFL, O_NONBLOCK);
  fcntl(out_fd, F_SETFL, O_NONBLOCK);
}

static void say_goodbye(uint16_t code, const char *message) {
  channel.greeted = true; /* whoever it is, it may hear why */
  if (!channel_room(MESSAGE_BYTES_MAX)) return;
  channel_error(A_GOODBYE, 0, code, message);
  channel_flush();
}

void channel_violation(const char *message) {
  if (channel.fd < 0) return;
  uint32_t generation = channel.generation;
  say_goodbye(E_PROTOCOL, message);
  if (channel.generation != generation) return;
  if (channel.is_port) channel_forget_peer();
  else channel_close();
}

static void channel_accept(void) {
  int fd = accept4(channel.listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) return;
  if (channel.fd >= 0) {
    say_goodbye(E_REPLACED, "another connection took this one's place");
    channel_close();
  }
  channel.fd = channel.out_fd = fd;
}

void channel_poll(void) {
  channel.fd_slot = channel.out_slot = channel.listener_slot = -1;
  if (channel.is_port && now_ms() < channel.port_try_at) return wake_at(channel.port_try_at);
  if (channel.path && channel.fd < 0) channel_open_port(channel.path);
  channel.listener_slot = channel.listener >= 0 ? poll_add(channel.listener, POLLIN) : -1;
  short reads = channel.in_length < IN_BYTES ? POLLIN : 0;
  short writes = channel.out_end > channel.out_start ? POLLOUT : 0;
  if (channel.fd != channel.out_fd) channel.out_slot = poll_add(channel.out_fd, writes);
  else reads |= writes;
  channel.fd_slot = channel.fd >= 0 ? poll_add(channel.fd, reads) : -1;
}

static void channel_read(void) {
  ssize_t got = read(channel.fd, in + channel.in_length, IN_BYTES - channel.in_length);
  if (got > 0) channel.in_length += (size_t)got;
  else if (got == 0 && channel.is_port) channel_rest();
  else if (got == 0 || (errno != EAGAIN && errno != EINTR)) channel_close();
}

void channel_events(void) {
  if (channel.fd >= 0 && poll_ready(channel.fd_slot)) {
    if (channel.in_length < IN_BYTES) channel_read();
    if (channel.fd >= 0) channel_flush();
  }
  if (poll_ready(channel.out_slot)) channel_flush();
  if (poll_ready(channel.listener_slot)) channel_accept();
}

void channel_flush(void) {
  while (channel.fd >= 0 && channel.out_end > channel.out_start) {
    ssize_t written = write(channel.out_fd, out + channel.out_start, channel.out_end - channel.out_start);
    if (written > 0) {
      channel.out_start += (size_t)written;
      continue;
    }
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno != EAGAIN) channel_close();
    return;
  }
  channel.out_start = channel.out_end = 0;
}

bool channel_room(size_t payload_bytes) {
  size_t need = FRAME_HEADER_BYTES + payload_bytes;
  if (channel.fd < 0 || !channel.greeted) return false;
  if (OUT_BYTES - channel.out_end >= need) return true;
  if (OUT_BYTES - channel.out_end + channel.out_start < need) return false;
  memmove(out, out + channel.out_start, channel.out_end - channel.out_start);
  channel.out_end -= channel.out_start;
  channel.out_start = 0;
  return true;
}

uint8_t *channel_payload(void) { return out + channel.out_end + FRAME_HEADER_BYTES; }

void channel_commit(uint8_t type, uint8_t flags, uint32_t id, size_t payload_bytes) {
  uint8_t *header = out + channel.out_end;
  header[0] = type;
  header[1] = flags;
  put16(header + 2, 0);
  put32(header + 4, id);
  put32(header + 8, (uint32_t)payload_bytes);
  channel.out_end += FRAME_HEADER_BYTES + payload_bytes;
}

void channel_error(uint8_t type, uint32_t id, uint16_t code, const char *message) {
  size_t length = strlen(message);
  if (length > MESSAGE_BYTES_MAX - 2) length = MESSAGE_BYTES_MAX - 2;
  uint8_t *payload = channel_payload();
  put16(payload, code);
  memcpy(payload + 2, message, length);
  channel_commit(type, 0, id, 2 + length);
}

bool channel_greeted(void) { return channel.greeted; }

void channel_greet(void) { channel.greeted = true; }

/* Bytes before the greeting on a port may be the tail of what an earlier host sent: look for a greeting byte by byte. */
static bool is_greeting(const uint8_t *bytes, size_t length) {
  static const uint8_t start[FRAME_HEADER_BYTES] = {F_HELLO, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0};
  return memcmp(bytes, start, length < sizeof start ? length : sizeof start) == 0;
}

/* How many bytes at the start are dealt with: 0 when the rest of a frame has still to come. */
static size_t parse_one(const uint8_t *bytes, size_t length) {
  if (bytes[0] == 0) return 1; /* padding */
  if (channel.is_port && !channel.greeted && !is_greeting(bytes, length)) return 1;
  if (length < FRAME_HEADER_BYTES) return 0;
  struct frame frame = {bytes[0], bytes[1], get32(bytes + 4), bytes + FRAME_HEADER_BYTES, get32(bytes + 8)};
  if (frame.length > FRAME_PAYLOAD_MAX || get16(bytes + 2) != 0) {
    channel_violation("malformed frame header");
    return 0;
  }
  if (length < FRAME_HEADER_BYTES + frame.length) return 0;
  session_frame(&frame);
  return FRAME_HEADER_BYTES + frame.length;
}

bool channel_parse(void) {
  size_t at = 0;
  uint32_t generation = channel.generation;
  while (channel.fd >= 0 && at < channel.in_length) {
    if (channel.greeted && !channel_room(REPLY_BYTES)) break;
    size_t used = parse_one(in + at, channel.in_length - at);
    if (channel.generation != generation) {
      if (channel.fd < 0) return true;
      generation = channel.generation; /* a port stays: the next greeting may be among the bytes that are here */
      used = 1;
    }
    if (used == 0) break;
    at += used;
  }
  memmove(in, in + at, channel.in_length - at);
  channel.in_length -= at;
  return at > 0;
}
