/* The numbers of the protocol. docs/guest-protocol.md explains each; host/guest-frames.ts is the other side. */
#ifndef CAISSON_WIRE_H
#define CAISSON_WIRE_H

#include <stdint.h>
#include <string.h>

#define WIRE_MAGIC "CAISSON" /* eight bytes with the closing NUL */

enum {
  WIRE_VERSION = 1,
  FRAME_HEADER_BYTES = 12,
  FRAME_PAYLOAD_MAX = 65536,
  DATA_CHUNK_BYTES = 32768, /* most bytes of output, file or directory data in one frame from the agent */
  FRAME_COST = 64,          /* what a frame from the agent costs of the host's credit besides its data */
  REPLAY_BYTES = 262144,    /* output kept per process until it is acknowledged */
  INBOUND_BYTES = 65536,    /* stdin or file bytes the host may have under way per stream */
  EXEC_BYTES_MAX = 1048576, /* one exec request over all its frames */
  EXEC_STRINGS_MAX = 8192,  /* arguments, and again variables */
  PATH_BYTES_MAX = 4095,
  MESSAGE_BYTES_MAX = 512,
  PROCESSES_MAX = 64,
  REQUESTS_MAX = 16,
  WORKERS_MAX = 32, /* workers that were let go but have not ended yet take places too */
  DRAINS_MAX = 64,
  ENTROPY_BYTES = 64,
  IDENTITY_BYTES = 8 + ENTROPY_BYTES, /* before the words of an identity */
  LINGER_MS = 200 /* how long the exit waits for background processes that still hold the output */
};

/* host to agent */
enum {
  F_HELLO = 0x01,
  F_PING = 0x02,
  F_EXEC = 0x10,
  F_ATTACH = 0x11,
  F_CREDIT = 0x12,
  F_ACK = 0x13,
  F_STDIN = 0x14,
  F_STDIN_CLOSE = 0x15,
  F_SIGNAL = 0x16,
  F_RESIZE = 0x17,
  F_FORGET = 0x18,
  F_READ = 0x30,
  F_WRITE = 0x31,
  F_STAT = 0x32,
  F_LIST = 0x33,
  F_MKDIR = 0x34,
  F_REMOVE = 0x35,
  F_DATA = 0x38,
  F_END = 0x39,
  F_CANCEL = 0x3a,
  F_REQUEST_CREDIT = 0x3b,
  F_IDENTITY = 0x50 /* clock, entropy and names of a clone */
  /* 0x51-0x5f for clones, too; 0x60-0x6f metrics: reserved */
};

/* agent to host */
enum {
  A_HELLO = 0x81,
  A_PONG = 0x82,
  A_GOODBYE = 0x83,
  A_STARTED = 0x90,
  A_ATTACHED = 0x91,
  A_OUTPUT = 0x92,
  A_EXIT = 0x93,
  A_STDIN_CREDIT = 0x94,
  A_STDIN_CLOSED = 0x95,
  A_PROCESS_ERROR = 0x96,
  A_FORGOTTEN = 0x97,
  A_DATA = 0xb0,
  A_ENTRIES = 0xb1,
  A_DONE = 0xb2,
  A_REQUEST_ERROR = 0xb3,
  A_WRITE_CREDIT = 0xb4
};

/* flags */
enum {
  FLAG_EXEC_MORE = 1,
  FLAG_OUTPUT_STDERR = 1,
  FLAG_EXIT_TIMED_OUT = 1,
  FLAG_ATTACHED_STDIN_OPEN = 1,
  FLAG_MKDIR_PARENTS = 1,
  FLAG_REMOVE_RECURSIVE = 1
};
enum { EXEC_STDIN = 1, EXEC_PTY = 2 };

enum {
  E_NOT_FOUND = 1,
  E_ALREADY_EXISTS = 2,
  E_NOT_A_DIRECTORY = 3,
  E_PERMISSION_DENIED = 4,
  E_INVALID_ARGUMENT = 5,
  E_IO_ERROR = 6,
  E_LIMIT_EXCEEDED = 7,
  E_PROTOCOL = 8,
  E_REPLACED = 9
};

static inline uint16_t get16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t get32(const uint8_t *p) { return (uint32_t)get16(p) | (uint32_t)get16(p + 2) << 16; }
static inline uint64_t get64(const uint8_t *p) { return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32; }
static inline void put16(uint8_t *p, uint16_t v) {
  p[0] = (uint8_t)v;
  p[1] = (uint8_t)(v >> 8);
}
static inline void put32(uint8_t *p, uint32_t v) {
  put16(p, (uint16_t)v);
  put16(p + 2, (uint16_t)(v >> 16));
}
static inline void put64(uint8_t *p, uint64_t v) {
  put32(p, (uint32_t)v);
  put32(p + 4, (uint32_t)(v >> 32));
}

#endif
