#include <stdio.h>
#include <sys/random.h>

#include "agent.h"

/* One exec request is put together at a time; its frames come in a row, other streams' frames may come between. */
static struct {
  uint32_t id;
  size_t length;
  uint8_t bytes[EXEC_BYTES_MAX];
} assembly;

static uint8_t instance[16];

void session_start(void) {
  if (getrandom(instance, sizeof instance, GRND_NONBLOCK) != (ssize_t)sizeof instance) memset(instance, 0, sizeof instance);
}

void session_reset(void) {
  assembly.id = 0;
  assembly.length = 0;
  process_detach_all();
  request_cancel_all();
}

static void hello(const struct frame *frame) {
  if (frame->length != 12 || frame->id != 0 || memcmp(frame->payload, WIRE_MAGIC, 8) != 0) {
    channel_violation("not a greeting of this protocol");
    return;
  }
  uint16_t lowest = get16(frame->payload + 8), highest = get16(frame->payload + 10);
  if (lowest > WIRE_VERSION || highest < WIRE_VERSION) {
    channel_violation("this agent speaks version 1 only");
    return;
  }
  if (channel_greeted()) session_reset();
  channel_greet();
  if (!channel_room(48)) {
    channel_violation("greeting again while output waits");
    return;
  }
  uint8_t *payload = channel_payload();
  memcpy(payload, WIRE_MAGIC, 8);
  put16(payload + 8, WIRE_VERSION);
  put16(payload + 10, 0);
  put32(payload + 12, FRAME_PAYLOAD_MAX);
  put32(payload + 16, REPLAY_BYTES);
  put32(payload + 20, INBOUND_BYTES);
  put32(payload + 24, PROCESSES_MAX);
  put32(payload + 28, REQUESTS_MAX);
  memcpy(payload + 32, instance, 16);
  channel_commit(A_HELLO, 0, 0, 48);
}

static void exec_part(const struct frame *frame) {
  if (assembly.id != 0 && assembly.id != frame->id) {
    channel_violation("frames of two exec requests are mixed");
    return;
  }
  if (frame->length > EXEC_BYTES_MAX - assembly.length) {
    channel_violation("exec request beyond its size limit");
    return;
  }
  assembly.id = frame->id;
  memcpy(assembly.bytes + assembly.length, frame->payload, frame->length);
  assembly.length += frame->length;
  if (frame->flags & FLAG_EXEC_MORE) return;
  size_t length = assembly.length;
  assembly.id = 0;
  assembly.length = 0;
  process_exec(frame->id, assembly.bytes, length);
}

static void ping(const struct frame *frame) {
  if (frame->length > 64) {
    channel_violation("ping too long");
    return;
  }
  memcpy(channel_payload(), frame->payload, frame->length);
  channel_commit(A_PONG, 0, frame->id, frame->length);
}

typedef void handler(const struct frame *frame);

static const struct {
  handler *handle;
  uint16_t least, most; /* payload bytes; most 0 means a whole frame */
} handlers[0x60] = {
    [F_PING] = {ping, 0, 64},
    [F_EXEC] = {exec_part, 0, 0},
    [F_ATTACH] = {process_attach, 12, 12},
    [F_CREDIT] = {process_credit, 4, 4},
    [F_ACK] = {process_ack, 8, 8},
    [F_STDIN] = {process_stdin, 0, 0},
    [F_STDIN_CLOSE] = {process_stdin_close, 0, 0},
    [F_SIGNAL] = {process_signal, 4, 4},
    [F_RESIZE] = {process_resize, 4, 4},
    [F_FORGET] = {process_forget, 0, 0},
    [F_READ] = {request_start, 4, 4 + PATH_BYTES_MAX},
    [F_WRITE] = {request_start, 4, 4 + PATH_BYTES_MAX},
    [F_STAT] = {request_start, 4, 4 + PATH_BYTES_MAX},
    [F_LIST] = {request_start, 4, 4 + PATH_BYTES_MAX},
    [F_MKDIR] = {request_start, 4, 4 + PATH_BYTES_MAX},
    [F_REMOVE] = {request_start, 4, 4 + PATH_BYTES_MAX},
    [F_DATA] = {request_data, 0, 0},
    [F_END] = {request_end, 0, 0},
    [F_CANCEL] = {request_cancel, 0, 0},
    [F_REQUEST_CREDIT] = {request_credit, 4, 4},
    [F_IDENTITY] = {identity_frame, IDENTITY_BYTES, 0},
};

void session_frame(const struct frame *frame) {
  if (frame->type == F_HELLO) {
    hello(frame);
    return;
  }
  if (!channel_greeted()) {
    channel_violation("the first frame has to be the greeting");
    return;
  }
  if (frame->type >= sizeof handlers / sizeof handlers[0] || !handlers[frame->type].handle) {
    channel_violation("unknown frame");
    return;
  }
  size_t most = handlers[frame->type].most ? handlers[frame->type].most : FRAME_PAYLOAD_MAX;
  if (frame->id == 0 || frame->length < handlers[frame->type].least || frame->length > most) {
    channel_violation("frame of a wrong size or without an id");
    return;
  }
  handlers[frame->type].handle(frame);
}
