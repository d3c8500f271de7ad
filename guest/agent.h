/* What the parts of the agent call from one another. */
#ifndef CAISSON_AGENT_H
#define CAISSON_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "wire.h"

/* serve.c: the loop, and the poll set every part adds itself to */
int serve_listener(int fd);
int serve_port(const char *path);
int serve_pipes(void);  /* streams 0 and 1 are the two halves of a port */
int64_t now_ms(void);
/* Asks for an event on fd before the next turn; returns the slot for poll_ready. */
int poll_add(int fd, short events);
bool poll_ready(int slot);
/* Makes the next poll return no later than this time. */
void wake_at(int64_t at_ms);

/* channel.c: frames over one byte stream that may be replaced at any time */
void channel_open_listener(int fd);
void channel_open_port(const char *path);
void channel_open_pipes(int in_fd, int out_fd);
void channel_poll(void);
void channel_events(void);
bool channel_parse(void);
void channel_flush(void);
/* Room for at least this payload? Every reply to one inbound frame fits the room that parsing waits for. */
bool channel_room(size_t payload_bytes);
/* The payload area of the next frame; valid until channel_commit. Call only with room and a greeted peer. */
uint8_t *channel_payload(void);
void channel_commit(uint8_t type, uint8_t flags, uint32_t id, size_t payload_bytes);
void channel_error(uint8_t type, uint32_t id, uint16_t code, const char *message);
/* The peer broke the rules: says goodbye with the reason and ends the connection. */
void channel_violation(const char *message);
bool channel_greeted(void);
void channel_greet(void);

/* session.c: one inbound frame to its handler */
struct frame {
  uint8_t type;
  uint8_t flags;
  uint32_t id;
  const uint8_t *payload;
  size_t length;
};
void session_frame(const struct frame *frame);
/* The connection is gone or begins anew: forget everything that belonged to it. */
void session_reset(void);
void session_start(void);

/* queue.c: a bounded ring of bytes on the way into a descriptor */
struct queue {
  uint8_t *bytes;
  size_t head, length;
  uint32_t credit_due; /* bytes that left the ring and were not yet given back to the host */
};
bool queue_push(struct queue *queue, const uint8_t *bytes, size_t length);
/* Writes what the descriptor takes; false when its reader is gone. */
bool queue_drain(struct queue *queue, int fd);
/* Credit worth telling the host about, else 0; taking it resets it. */
uint32_t queue_take_credit(struct queue *queue);

/* process.c */
void process_init(void);
void process_exec(uint32_t id, uint8_t *request, size_t length);
void process_attach(const struct frame *frame);
void process_credit(const struct frame *frame);
void process_ack(const struct frame *frame);
void process_stdin(const struct frame *frame);
void process_stdin_close(const struct frame *frame);
void process_signal(const struct frame *frame);
void process_resize(const struct frame *frame);
void process_forget(const struct frame *frame);
void process_detach_all(void);
void process_poll(void);
void process_events(void);
bool process_pump(void);
void process_timers(void);
bool process_reaped(pid_t pid, int status);

/* drain.c: output that nobody waits for any more, read so that its writers live on */
void drain_add(int fd);
void drain_poll(void);
void drain_events(void);

/* kill.c */
void kill_group(pid_t group, int number);

/* child.c: the way from fork to exec, inside the new process */
struct child {
  const char *cwd, *user;
  char **argv, **env;
  int stdin_fd, stdout_fd, stderr_fd; /* unused with a terminal; stdin_fd may be -1 for /dev/null */
  int terminal_fd;                    /* the master, or -1 */
  int status_fd;
};
_Noreturn void child_exec(const struct child *child);
/* Leaves only 0, 1, 2 and the descriptors below `from` open. */
void close_from(int from);

/* account.c */
struct account {
  uid_t uid;
  gid_t gid;
  gid_t groups[64];
  int group_count;
};
/* 0, or an error code of the protocol with *why set. */
uint16_t account_find(const char *spec, struct account *account, const char **why);

/* request.c */
void request_init(void);
void request_start(const struct frame *frame);
void request_data(const struct frame *frame);
void request_end(const struct frame *frame);
void request_cancel(const struct frame *frame);
void request_credit(const struct frame *frame);
void request_cancel_all(void);
void request_poll(void);
void request_events(void);
bool request_pump(void);
bool request_reaped(pid_t pid);

/* files.c: runs inside a worker process */
struct file_request {
  uint8_t type, flags;
  uint32_t argument;
  char path[PATH_BYTES_MAX + 1];
};
_Noreturn void files_run(const struct file_request *request, int control_fd, int data_fd);
/* remove.c */
int remove_tree(const char *path);

/* vm-init.c: process 1 of a machine of its own; returns only when it cannot go on */
int vm_boot(char **words);
/* Makes a clone the machine it is to be: its disks and root if it waits for them, else its names alone. False outside of a machine. */
bool vm_become(char **words);
bool vm_is_machine(void);
/* The group that holds all of a machine but its kernel: the agent, and in `programs` below everything else. */
#define CAPSULE_GROUP "/sys/fs/cgroup/capsule"
/* vm-hold.c: puts the calling process among the programs */
void vm_join_programs(void);
/* Makes every program of the machine stand, but the caller; 0 when they do, until `vm_release`. */
int vm_hold(void);
void vm_release(void);
/* vm-identity.c: what no two clones may have in common, before anything runs in them */
void identity_frame(const struct frame *frame);
/* In a machine that waits: `layers=<count>`, with disks that are there for this alone. */
int vm_rehearse(char **words);
/* vm-warm-up.c: runs a program of the machine's own to its end, such that it leaves nothing */
int vm_warm_up(char **program);
/* Writes every disk's data out, for who is about to stop the machine. */
int vm_sync(void);
int vm_full(void);
/* vm-tsc.c: prints the frequency of the time stamp counter in kHz, 0 where there is none */
int vm_tsc(void);
/* vm-network.c */
bool network_up(const char *link);
/* An address in a network of 256, and the way out; brings the link up. */
bool network_address(const char *link, const char *address, const char *gateway);
/* vm-files.c: gives QEMU the open files 3, 4, ... over its second control socket, as one descriptor set of the given number each */
int vm_give_files(const char *socket_path, char **sets);
/* vm-jail.c: `<uid> <network namespace|none> <root> <run directory> <memory file|none> [<cgroup.procs>...] -- <program>...` */
int run_jail(char **words);

/* activate.c: `<pid> <start ticks> <hostname> <bytes of /dev/shm> <mount point> <overlay options> [<directory> <place inside>]...` */
int run_activate(int count, char **words);

/* error.c */
uint16_t error_code(int number);

#endif
