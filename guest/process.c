/* The processes the host asked for: their output's replay buffer, their input, their end. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

enum { SLOT_BYTES = REPLAY_BYTES + REPLAY_BYTES / 8 + INBOUND_BYTES };
enum { OUT = 0, ERR = 1 };

struct process {
  uint32_t id; /* 0: the slot is free */
  uint64_t started; /* counts the starts, so that the oldest is known */
  pid_t group;      /* of the process, which leads it */
  bool starting;    /* the program does not run yet; the status pipe will tell */
  bool reaped;      /* the main process has ended */
  bool lingered;    /* and the time for background processes is over */
  bool finished;    /* its exit is decided: no output will be added */
  bool attached, answer_due, exit_told;
  bool forgotten; /* its output goes nowhere and the slot ends with it */
  bool timed_out;
  bool stdin_ending, stdin_closed_due;
  bool end_of_text_due; /* the end of input as a terminal knows it: a byte, sent once what waits is through */
  bool terminal;
  int status_fd, stdin_fd, output_fd[2];
  int status_slot, stdin_slot, output_slot[2];
  uint64_t acknowledged, sent, end; /* offsets into the output of both streams together */
  uint32_t credit;
  int64_t deadline_ms, linger_ms; /* 0: none */
  uint32_t owed[2];               /* bytes that were in the pipe when the main process ended */
  int wait_status;
  uint16_t refusal;
  char refusal_text[MESSAGE_BYTES_MAX];
  struct queue input;
  uint8_t *ring, *marks; /* marks: one bit for each byte of the ring, set for stderr */
};

static struct process processes[PROCESSES_MAX];
static uint64_t start_count;
static size_t pump_start;

void process_init(void) {
  uint8_t *memory = mmap(NULL, (size_t)SLOT_BYTES * PROCESSES_MAX, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) _exit(1);
  madvise(memory, (size_t)SLOT_BYTES * PROCESSES_MAX, MADV_DONTFORK);
  for (size_t i = 0; i < PROCESSES_MAX; i++) {
    processes[i].ring = memory + i * SLOT_BYTES;
    processes[i].marks = processes[i].ring + REPLAY_BYTES;
    processes[i].input.bytes = processes[i].marks + REPLAY_BYTES / 8;
  }
}

static struct process *find(uint32_t id) {
  for (size_t i = 0; i < PROCESSES_MAX; i++)
    if (processes[i].id == id && !processes[i].forgotten) return &processes[i];
  return NULL;
}

static struct process *find_attached(uint32_t id) {
  struct process *process = find(id);
  return process && process->attached ? process : NULL;
}

static bool taken(uint32_t id) {
  for (size_t i = 0; i < PROCESSES_MAX; i++)
    if (processes[i].id == id) return true;
  return false;
}

static void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static void free_process(struct process *process) {
  close_fd(&process->status_fd);
  close_fd(&process->stdin_fd);
  close_fd(&process->output_fd[OUT]);
  close_fd(&process->output_fd[ERR]);
  process->id = 0;
  madvise(process->ring, SLOT_BYTES, MADV_DONTNEED);
}

/* A free slot, or that of the oldest process whose exit was told and whose output is all acknowledged. */
static struct process *take_slot(void) {
  struct process *oldest = NULL;
  for (size_t i = 0; i < PROCESSES_MAX; i++) {
    struct process *process = &processes[i];
    if (process->id == 0) return process;
    bool spent = process->finished && process->exit_told && process->acknowledged == process->end;
    if (spent && (!oldest || process->started < oldest->started)) oldest = process;
  }
  if (oldest) free_process(oldest);
  return oldest;
}

/* ---- starting ---- */

struct exec {
  uint32_t flags, timeout_ms, credit;
  uint16_t rows, cols;
  const char *cwd, *user;
};

static char *arguments[EXEC_STRINGS_MAX + 1], *variables[EXEC_STRINGS_MAX + 1];

static char *take_string(uint8_t **at, uint8_t *end) {
  uint8_t *zero = memchr(*at, 0, (size_t)(end - *at));
  if (!zero) return NULL;
  char *string = (char *)*at;
  *at = zero + 1;
  return string;
}

static bool take_strings(char **list, uint32_t count, uint8_t **at, uint8_t *end) {
  if (count > EXEC_STRINGS_MAX) return false;
  for (uint32_t i = 0; i < count; i++)
    if (!(list[i] = take_string(at, end))) return false;
  list[count] = NULL;
  return true;
}

static bool parse_exec(struct exec *exec, uint8_t *bytes, size_t length) {
  uint8_t *at = bytes + 24, *end = bytes + length;
  if (length < 24) return false;
  exec->flags = get32(bytes);
  exec->rows = get16(bytes + 4);
  exec->cols = get16(bytes + 6);
  exec->timeout_ms = get32(bytes + 8);
  exec->credit = get32(bytes + 12);
  uint32_t argument_count = get32(bytes + 16), variable_count = get32(bytes + 20);
  if (argument_count == 0 || exec->flags > (EXEC_STDIN | EXEC_PTY)) return false;
  if (!(exec->cwd = take_string(&at, end)) || !(exec->user = take_string(&at, end))) return false;
  if (!take_strings(arguments, argument_count, &at, end)) return false;
  return take_strings(variables, variable_count, &at, end) && at == end;
}

/* The descriptors that go to the child, beside those the slot keeps. */
struct child_ends {
  int in, out, err, status;
};

static bool open_pipe(int *read_end, int *write_end, bool keep_read) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return false;
  *read_end = ends[0];
  *write_end = ends[1];
  return fcntl(keep_read ? ends[0] : ends[1], F_SETFL, O_NONBLOCK) == 0;
}

static bool open_terminal(struct process *process, const struct exec *exec) {
  struct winsize size = {.ws_row = exec->rows, .ws_col = exec->cols};
  int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), unlocked = 0;
  process->output_fd[OUT] = master;
  if (master < 0 || ioctl(master, TIOCSPTLCK, &unlocked) < 0) return false;
  ioctl(master, TIOCSWINSZ, &size);
  process->stdin_fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
  return process->stdin_fd >= 0;
}

static bool open_streams(struct process *process, const struct exec *exec, struct child_ends *ends) {
  if (!open_pipe(&process->status_fd, &ends->status, true)) return false;
  if (exec->flags & EXEC_PTY) return open_terminal(process, exec);
  if (exec->flags & EXEC_STDIN && !open_pipe(&ends->in, &process->stdin_fd, false)) return false;
  return open_pipe(&process->output_fd[OUT], &ends->out, true) && open_pipe(&process->output_fd[ERR], &ends->err, true);
}

static void fork_child(struct process *process, const struct exec *exec, struct child_ends *ends) {
  bool opened = open_streams(process, exec, ends);
  pid_t pid = opened ? fork() : -1;
  int failure = errno;
  if (pid == 0) {
    struct child child = {exec->cwd, exec->user, arguments,
                          variables, ends->in,   ends->out,
                          ends->err, process->terminal ? process->output_fd[OUT] : -1, ends->status};
    child_exec(&child);
  }
  close_fd(&ends->in);
  close_fd(&ends->out);
  close_fd(&ends->err);
  close_fd(&ends->status);
  if (pid > 0) {
    process->group = pid;
    return;
  }
  channel_error(A_PROCESS_ERROR, process->id, error_code(failure), opened ? "cannot fork" : "cannot open the streams");
  free_process(process);
}

void process_exec(uint32_t id, uint8_t *request, size_t length) {
  struct exec exec;
  if (!parse_exec(&exec, request, length)) {
    channel_violation("malformed exec request");
    return;
  }
  if (taken(id)) {
    channel_error(A_PROCESS_ERROR, id, E_ALREADY_EXISTS, "a process with this id exists");
    return;
  }
  struct process *process = take_slot();
  if (!process) {
    channel_error(A_PROCESS_ERROR, id, E_LIMIT_EXCEEDED, "too many processes that run or were not forgotten");
    return;
  }
  uint8_t *ring = process->ring, *marks = process->marks, *input = process->input.bytes;
  *process = (struct process){.id = id, .started = ++start_count, .starting = true, .attached = true, .answer_due = true,
                              .terminal = exec.flags & EXEC_PTY, .credit = exec.credit, .ring = ring, .marks = marks,
                              .status_fd = -1, .stdin_fd = -1, .output_fd = {-1, -1},
                              .status_slot = -1, .stdin_slot = -1, .output_slot = {-1, -1}};
  process->input.bytes = input;
  if (exec.timeout_ms) process->deadline_ms = now_ms() + exec.timeout_ms;
  struct child_ends ends = {-1, -1, -1, -1};
  fork_child(process, &exec, &ends);
}

/* The status pipe ends without a word when the program runs, else it says why not. */
static void read_status(struct process *process) {
  uint8_t report[2 + MESSAGE_BYTES_MAX];
  ssize_t got = read(process->status_fd, report, sizeof report - 1);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got >= 2) {
    process->refusal = get16(report);
    memcpy(process->refusal_text, report + 2, (size_t)got - 2);
    process->refusal_text[got - 2] = 0;
  }
  process->starting = false;
  close_fd(&process->status_fd);
}

/* ---- output ---- */

static void mark(uint8_t *marks, size_t from, size_t length, bool set) {
  for (; length > 0 && from % 8 != 0; from++, length--)
    marks[from / 8] = (uint8_t)(set ? marks[from / 8] | 1 << from % 8 : marks[from / 8] & ~(1 << from % 8));
  memset(marks + from / 8, set ? 0xff : 0, length / 8);
  from += length / 8 * 8;
  for (length %= 8; length > 0; from++, length--)
    marks[from / 8] = (uint8_t)(set ? marks[from / 8] | 1 << from % 8 : marks[from / 8] & ~(1 << from % 8));
}

static bool marked(const uint8_t *marks, size_t at) { return marks[at / 8] >> at % 8 & 1; }

/* How many of the next bytes, at most `most` and not around the ring's end, belong to the same stream as the first. */
static size_t same_stream(const uint8_t *marks, size_t at, size_t most) {
  uint8_t all = marked(marks, at) ? 0xff : 0;
  size_t count = 0;
  while (count < most) {
    if ((at + count) % 8 == 0 && most - count >= 8 && marks[(at + count) / 8] == all) count += 8;
    else if (marked(marks, at + count) == (all != 0)) count++;
    else break;
  }
  return count;
}

static size_t ring_room(const struct process *process) {
  return REPLAY_BYTES - (size_t)(process->end - process->acknowledged);
}

static void read_output(struct process *process, int stream) {
  size_t at = (size_t)(process->end % REPLAY_BYTES), room = ring_room(process);
  if (room > REPLAY_BYTES - at) room = REPLAY_BYTES - at;
  if (room > 65536) room = 65536;
  if (room == 0) return;
  ssize_t got = read(process->output_fd[stream], process->ring + at, room);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    close_fd(&process->output_fd[stream]); /* a terminal's end is EIO */
    process->owed[stream] = 0;
    return;
  }
  mark(process->marks, at, (size_t)got, stream == ERR);
  process->end += (uint64_t)got;
  process->owed[stream] -= process->owed[stream] < (uint32_t)got ? process->owed[stream] : (uint32_t)got;
  if (process->forgotten) process->acknowledged = process->sent = process->end;
}

static bool send_output(struct process *process) {
  uint64_t waiting = process->end - process->sent;
  size_t at = (size_t)(process->sent % REPLAY_BYTES), most = DATA_CHUNK_BYTES;
  if (waiting == 0 || process->credit <= FRAME_COST || !channel_room(8 + DATA_CHUNK_BYTES)) return false;
  if (most > waiting) most = (size_t)waiting;
  if (most > REPLAY_BYTES - at) most = REPLAY_BYTES - at;
  if (most > process->credit - FRAME_COST) most = process->credit - FRAME_COST;
  size_t length = same_stream(process->marks, at, most);
  uint8_t *payload = channel_payload();
  put64(payload, process->sent);
  memcpy(payload + 8, process->ring + at, length);
  channel_commit(A_OUTPUT, marked(process->marks, at) ? FLAG_OUTPUT_STDERR : 0, process->id, 8 + length);
  process->sent += length;
  process->credit -= (uint32_t)length + FRAME_COST;
  return true;
}

/* ---- the end ---- */

bool process_reaped(pid_t pid, int status) {
  for (size_t i = 0; i < PROCESSES_MAX; i++) {
    struct process *process = &processes[i];
    if (process->id == 0 || process->reaped || process->group != pid) continue;
    process->reaped = true;
    process->wait_status = status;
    process->linger_ms = now_ms() + LINGER_MS;
    process->deadline_ms = 0;
    for (int stream = OUT; stream <= ERR; stream++) {
      int pending = 0;
      if (process->output_fd[stream] >= 0 && ioctl(process->output_fd[stream], FIONREAD, &pending) == 0 && pending > 0)
        process->owed[stream] = (uint32_t)pending;
    }
    return true;
  }
  return false;
}

/* Somebody else may have read the pipe empty, so what is owed is never more than what is there. */
static bool still_owed(const struct process *process, int stream) {
  int pending = 0;
  if (process->output_fd[stream] < 0 || process->owed[stream] == 0) return false;
  return ioctl(process->output_fd[stream], FIONREAD, &pending) == 0 && pending > 0;
}

/* Decides the exit once all that the main process wrote is read, and background processes had their short time. */
static void try_finish(struct process *process) {
  if (process->finished || !process->reaped || process->starting) return;
  bool open = process->output_fd[OUT] >= 0 || process->output_fd[ERR] >= 0;
  process->lingered = now_ms() >= process->linger_ms;
  if (open && (!process->lingered || still_owed(process, OUT) || still_owed(process, ERR))) return;
  for (int stream = OUT; stream <= ERR; stream++) {
    if (process->output_fd[stream] >= 0 && !process->terminal) drain_add(process->output_fd[stream]);
    else close_fd(&process->output_fd[stream]);
    process->output_fd[stream] = -1;
  }
  close_fd(&process->stdin_fd);
  process->finished = true;
  if (process->forgotten || (process->refusal && !process->attached)) free_process(process);
}

static bool send_exit(struct process *process) {
  if (!process->finished || process->sent != process->end || !channel_room(20)) return false;
  bool signalled = WIFSIGNALED(process->wait_status);
  uint8_t *payload = channel_payload();
  put32(payload, signalled ? 128 + (uint32_t)WTERMSIG(process->wait_status) : (uint32_t)WEXITSTATUS(process->wait_status));
  put32(payload + 4, signalled ? (uint32_t)WTERMSIG(process->wait_status) : 0);
  put64(payload + 8, process->end);
  channel_commit(A_EXIT, process->timed_out ? FLAG_EXIT_TIMED_OUT : 0, process->id, 16);
  process->exit_told = true;
  process->attached = false; /* nothing more to tell in this connection */
  return true;
}

void process_timers(void) {
  int64_t now = now_ms();
  for (size_t i = 0; i < PROCESSES_MAX; i++) {
    struct process *process = &processes[i];
    if (process->id == 0) continue;
    if (process->deadline_ms && now >= process->deadline_ms && !process->reaped) {
      process->timed_out = true;
      process->deadline_ms = 0;
      kill_group(process->group, SIGKILL);
      kill(process->group, SIGKILL); /* it may not lead its group yet */
    }
    try_finish(process);
  }
}

/* ---- to the host ---- */

/* The answer to exec; true when the process goes on being pumped. */
static bool send_answer(struct process *process) {
  if (process->starting || !channel_room(MESSAGE_BYTES_MAX)) return false;
  process->answer_due = false;
  if (!process->refusal) {
    put32(channel_payload(), INBOUND_BYTES);
    channel_commit(A_STARTED, 0, process->id, 4);
    return true;
  }
  channel_error(A_PROCESS_ERROR, process->id, process->refusal, process->refusal_text);
  process->attached = false;
  process->forgotten = true; /* frees itself once its child is reaped */
  if (process->finished) free_process(process);
  return false;
}

static bool send_stdin_news(struct process *process) {
  if (!channel_room(4)) return false;
  if (process->stdin_closed_due) {
    process->stdin_closed_due = false;
    channel_commit(A_STDIN_CLOSED, 0, process->id, 0);
    return true;
  }
  uint32_t credit = process->stdin_fd >= 0 && !process->stdin_ending ? queue_take_credit(&process->input) : 0;
  if (credit == 0) return false;
  put32(channel_payload(), credit);
  channel_commit(A_STDIN_CREDIT, 0, process->id, 4);
  return true;
}

static bool pump_one(struct process *process) {
  if (process->id == 0 || !process->attached) return false;
  if (process->answer_due) {
    if (!send_answer(process)) return false;
  }
  bool moved = send_stdin_news(process);
  moved |= send_output(process);
  return send_exit(process) || moved;
}

bool process_pump(void) {
  bool moved = false;
  for (size_t i = 0; i < PROCESSES_MAX; i++) moved |= pump_one(&processes[(pump_start + i) % PROCESSES_MAX]);
  pump_start = (pump_start + 1) % PROCESSES_MAX;
  return moved;
}

/* ---- poll ---- */

static void feed_stdin(struct process *process) {
  if (process->stdin_fd < 0) return;
  bool alive = queue_drain(&process->input, process->stdin_fd);
  if (alive && process->input.length == 0 && process->end_of_text_due)
    process->end_of_text_due = write(process->stdin_fd, "\4", 1) != 1;
  if (alive && !(process->stdin_ending && process->input.length == 0)) return;
  process->stdin_closed_due = !alive && process->attached;
  close_fd(&process->stdin_fd);
}

void process_poll(void) {
  for (size_t i = 0; i < PROCESSES_MAX; i++) {
    struct process *process = &processes[i];
    process->status_slot = process->stdin_slot = process->output_slot[OUT] = process->output_slot[ERR] = -1;
    if (process->id == 0 || process->finished) continue;
    if (process->status_fd >= 0) process->status_slot = poll_add(process->status_fd, POLLIN);
    if (process->stdin_fd >= 0 && (process->input.length > 0 || process->end_of_text_due))
      process->stdin_slot = poll_add(process->stdin_fd, POLLOUT);
    for (int stream = OUT; stream <= ERR; stream++)
      if (process->output_fd[stream] >= 0 && ring_room(process) > 0)
        process->output_slot[stream] = poll_add(process->output_fd[stream], POLLIN);
    if (process->deadline_ms) wake_at(process->deadline_ms);
    if (process->reaped && !process->lingered) wake_at(process->linger_ms);
  }
}

void process_events(void) {
  for (size_t i = 0; i < PROCESSES_MAX; i++) {
    struct process *process = &processes[i];
    if (process->id == 0 || process->finished) continue;
    if (poll_ready(process->status_slot)) read_status(process);
    if (poll_ready(process->stdin_slot)) feed_stdin(process);
    for (int stream = OUT; stream <= ERR; stream++)
      if (process->output_fd[stream] >= 0 && poll_ready(process->output_slot[stream])) read_output(process, stream);
  }
}

/* ---- from the host ---- */

void process_attach(const struct frame *frame) {
  struct process *process = find(frame->id);
  uint64_t from = get64(frame->payload);
  if (!process || process->answer_due) {
    channel_error(A_PROCESS_ERROR, frame->id, E_NOT_FOUND, "no such process");
    return;
  }
  if (process->refusal || from < process->acknowledged || from > process->end) {
    channel_error(A_PROCESS_ERROR, frame->id, E_INVALID_ARGUMENT, "the offset is not within the kept output");
    return;
  }
  process->attached = true;
  process->sent = from;
  process->credit = get32(frame->payload + 8);
  process->stdin_closed_due = false;
  process->input.credit_due = 0;
  uint8_t *payload = channel_payload();
  put64(payload, process->acknowledged);
  put64(payload + 8, process->end);
  put32(payload + 16, (uint32_t)(INBOUND_BYTES - process->input.length));
  bool open = process->stdin_fd >= 0 && !process->stdin_ending;
  channel_commit(A_ATTACHED, open ? FLAG_ATTACHED_STDIN_OPEN : 0, frame->id, 20);
}

void process_credit(const struct frame *frame) {
  struct process *process = find_attached(frame->id);
  uint32_t units = get32(frame->payload);
  if (!process) return;
  if (units > UINT32_MAX / 2 - process->credit) channel_violation("more credit than can be counted");
  else process->credit += units;
}

void process_ack(const struct frame *frame) {
  struct process *process = find(frame->id);
  uint64_t offset = get64(frame->payload);
  if (!process) return;
  if (offset > process->sent) {
    channel_violation("acknowledged what was not sent");
    return;
  }
  if (offset > process->acknowledged) process->acknowledged = offset;
}

void process_stdin(const struct frame *frame) {
  struct process *process = find_attached(frame->id);
  if (!process || process->stdin_fd < 0 || process->stdin_ending) return;
  if (!queue_push(&process->input, frame->payload, frame->length)) {
    channel_violation("more standard input than there is credit");
    return;
  }
  feed_stdin(process);
}

void process_stdin_close(const struct frame *frame) {
  struct process *process = find_attached(frame->id);
  if (!process || process->stdin_fd < 0 || process->stdin_ending) return;
  if (process->terminal) process->end_of_text_due = true;
  else process->stdin_ending = true;
  feed_stdin(process);
}

void process_signal(const struct frame *frame) {
  struct process *process = find(frame->id);
  uint32_t number = get32(frame->payload);
  if (number == 0 || number > 64) {
    channel_violation("no such signal");
    return;
  }
  if (process && !process->finished && !process->starting) kill_group(process->group, (int)number);
}

void process_resize(const struct frame *frame) {
  struct process *process = find_attached(frame->id);
  struct winsize size = {.ws_row = get16(frame->payload), .ws_col = get16(frame->payload + 2)};
  if (process && process->terminal && process->output_fd[OUT] >= 0) ioctl(process->output_fd[OUT], TIOCSWINSZ, &size);
}

void process_forget(const struct frame *frame) {
  struct process *process = find(frame->id);
  if (process && !process->answer_due) {
    process->attached = false;
    process->forgotten = true;
    process->acknowledged = process->sent = process->end;
    if (process->finished) free_process(process);
  }
  channel_commit(A_FORGOTTEN, 0, frame->id, 0);
}

void process_detach_all(void) {
  for (size_t i = 0; i < PROCESSES_MAX; i++) {
    struct process *process = &processes[i];
    if (process->id == 0) continue;
    process->attached = process->answer_due = false;
    process->input.credit_due = 0;
    if (process->refusal && process->finished) free_process(process);
  }
}
