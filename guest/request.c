/* File requests. Each runs in a forked worker, because a file of the image may block for ever; the worker's words come over a
 * packet socket, file bytes go to it over a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent.h"

struct request {
  uint32_t id;  /* 0: nobody at the host waits for it any more */
  pid_t worker; /* 0: reaped; a slot is free without worker and id */
  int control_fd, data_fd;
  int control_slot, data_slot;
  bool writes, ending;
  uint32_t credit;
  struct queue input;
};

static struct request requests[WORKERS_MAX];

void request_init(void) {
  uint8_t *memory = mmap(NULL, (size_t)INBOUND_BYTES * WORKERS_MAX, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) _exit(1);
  madvise(memory, (size_t)INBOUND_BYTES * WORKERS_MAX, MADV_DONTFORK);
  for (size_t i = 0; i < WORKERS_MAX; i++) {
    requests[i].control_fd = requests[i].data_fd = requests[i].control_slot = requests[i].data_slot = -1;
    requests[i].input.bytes = memory + i * INBOUND_BYTES;
  }
}

static struct request *find(uint32_t id) {
  for (size_t i = 0; i < WORKERS_MAX; i++)
    if (requests[i].id == id) return &requests[i];
  return NULL;
}

static struct request *find_free(void) {
  struct request *free = NULL;
  size_t open = 0;
  for (size_t i = 0; i < WORKERS_MAX; i++) {
    if (requests[i].id) open++;
    else if (requests[i].worker == 0) free = &requests[i];
  }
  return open < REQUESTS_MAX ? free : NULL;
}

static void close_data(struct request *request) {
  if (request->data_fd >= 0) close(request->data_fd);
  request->data_fd = -1;
}

/* Nobody waits any more. The worker sees its ends closed and goes; the slot is free when it is reaped. */
static void let_go(struct request *request) {
  close_data(request);
  if (request->control_fd >= 0) close(request->control_fd);
  request->control_fd = -1;
  request->id = 0;
}

static bool fork_worker(struct request *request, const struct file_request *what) {
  int control[2], data[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0) return false;
  pid_t worker = request->writes && pipe2(data, O_CLOEXEC) < 0 ? -1 : fork();
  if (worker == 0) files_run(what, control[1], data[0]);
  int failure = errno;
  close(control[1]);
  if (data[0] >= 0) close(data[0]);
  request->control_fd = control[0];
  request->data_fd = data[1];
  errno = failure;
  if (worker < 0) return false;
  fcntl(control[0], F_SETFL, O_NONBLOCK);
  if (data[1] >= 0) fcntl(data[1], F_SETFL, O_NONBLOCK);
  request->worker = worker;
  return true;
}

void request_start(const struct frame *frame) {
  static struct file_request what;
  size_t length = frame->length - 4;
  if (find(frame->id)) {
    channel_violation("a request with this id is under way");
    return;
  }
  memcpy(what.path, frame->payload + 4, length);
  what.path[length] = 0;
  what.type = frame->type;
  what.flags = frame->flags;
  what.argument = get32(frame->payload);
  if (what.path[0] != '/' || strlen(what.path) != length) {
    channel_error(A_REQUEST_ERROR, frame->id, E_INVALID_ARGUMENT, "a path is absolute and has no NUL");
    return;
  }
  struct request *request = find_free();
  if (!request) {
    channel_error(A_REQUEST_ERROR, frame->id, E_LIMIT_EXCEEDED, "too many file requests at once");
    return;
  }
  request->id = frame->id;
  request->writes = frame->type == F_WRITE;
  request->ending = false;
  request->credit = frame->type == F_READ || frame->type == F_LIST ? what.argument : DATA_CHUNK_BYTES + FRAME_COST;
  request->input.head = request->input.length = request->input.credit_due = 0;
  if (fork_worker(request, &what)) return;
  channel_error(A_REQUEST_ERROR, frame->id, error_code(errno), "cannot start a worker");
  let_go(request);
}

/* The end of the bytes is told in two steps, so that a worker never takes a lost host for the end of the file. */
static void feed(struct request *request) {
  if (request->data_fd < 0) return;
  bool alive = queue_drain(&request->input, request->data_fd);
  if (alive && request->input.length > 0) return;
  if (alive && request->ending) send(request->control_fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (!alive || request->ending) close_data(request); /* a worker that went first has said why */
}

void request_data(const struct frame *frame) {
  struct request *request = find(frame->id);
  if (!request || !request->writes || request->ending || request->data_fd < 0) return;
  if (!queue_push(&request->input, frame->payload, frame->length)) channel_violation("more file bytes than there is credit");
  else feed(request);
}

void request_end(const struct frame *frame) {
  struct request *request = find(frame->id);
  if (!request || !request->writes || request->ending) return;
  request->ending = true;
  feed(request);
}

void request_cancel(const struct frame *frame) {
  struct request *request = find(frame->id);
  if (!request) return;
  channel_error(A_REQUEST_ERROR, frame->id, E_IO_ERROR, "canceled");
  let_go(request);
}

void request_credit(const struct frame *frame) {
  struct request *request = find(frame->id);
  uint32_t units = get32(frame->payload);
  if (!request) return;
  if (units > UINT32_MAX / 2 - request->credit) channel_violation("more credit than can be counted");
  else request->credit += units;
}

void request_cancel_all(void) {
  for (size_t i = 0; i < WORKERS_MAX; i++)
    if (requests[i].id) let_go(&requests[i]);
}

bool request_reaped(pid_t pid) {
  for (size_t i = 0; i < WORKERS_MAX; i++) {
    if (requests[i].worker != pid) continue;
    requests[i].worker = 0;
    return true;
  }
  return false;
}

static bool may_receive(const struct request *request) {
  return request->id && request->control_fd >= 0 && request->credit >= DATA_CHUNK_BYTES + FRAME_COST;
}

/* One packet of the worker becomes one frame: its first byte is the type, the rest the payload. */
static bool receive(struct request *request) {
  uint8_t type = 0;
  if (!may_receive(request) || !channel_room(DATA_CHUNK_BYTES)) return false;
  struct iovec parts[2] = {{&type, 1}, {channel_payload(), DATA_CHUNK_BYTES}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  ssize_t got = recvmsg(request->control_fd, &message, 0);
  /* A worker that ended without reading the commit leaves this error in front of its last packet. */
  if (got < 0 && errno == ECONNRESET) got = recvmsg(request->control_fd, &message, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (got <= 0) {
    channel_error(A_REQUEST_ERROR, request->id, E_IO_ERROR, "the file worker died");
    let_go(request);
    return true;
  }
  channel_commit(type, 0, request->id, (size_t)got - 1);
  if (type == A_DONE || type == A_REQUEST_ERROR) let_go(request);
  else request->credit -= (uint32_t)got - 1 + FRAME_COST;
  return true;
}

static bool give_credit(struct request *request) {
  if (!request->id || !request->writes || request->data_fd < 0 || !channel_room(4)) return false;
  uint32_t credit = queue_take_credit(&request->input);
  if (credit == 0) return false;
  put32(channel_payload(), credit);
  channel_commit(A_WRITE_CREDIT, 0, request->id, 4);
  return true;
}

bool request_pump(void) {
  bool moved = false;
  for (size_t i = 0; i < WORKERS_MAX; i++) {
    if (!requests[i].id) continue;
    moved |= give_credit(&requests[i]);
    moved |= receive(&requests[i]);
  }
  return moved;
}

void request_poll(void) {
  for (size_t i = 0; i < WORKERS_MAX; i++) {
    struct request *request = &requests[i];
    request->control_slot = may_receive(request) && channel_room(DATA_CHUNK_BYTES) ? poll_add(request->control_fd, POLLIN) : -1;
    bool waiting = request->data_fd >= 0 && request->input.length > 0;
    request->data_slot = waiting ? poll_add(request->data_fd, POLLOUT) : -1;
  }
}

void request_events(void) {
  for (size_t i = 0; i < WORKERS_MAX; i++)
    if (requests[i].data_fd >= 0 && poll_ready(requests[i].data_slot)) feed(&requests[i]);
}
