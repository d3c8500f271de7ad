/* The agent's one loop. It never blocks on anything but poll: what could block runs in a child. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

enum { POLL_MAX = 4 + PROCESSES_MAX * 4 + WORKERS_MAX * 2 + DRAINS_MAX };

static struct pollfd polled[POLL_MAX];
static int polled_count;
static int64_t wake_time;

int64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int poll_add(int fd, short events) {
  polled[polled_count].fd = fd;
  polled[polled_count].events = events;
  polled[polled_count].revents = 0;
  return polled_count++;
}

bool poll_ready(int slot) { return slot >= 0 && slot < polled_count && polled[slot].revents != 0; }

void wake_at(int64_t at_ms) {
  if (at_ms < wake_time) wake_time = at_ms;
}

static void reap(int signal_fd) {
  struct signalfd_siginfo information;
  int status;
  while (read(signal_fd, &information, sizeof information) > 0) continue;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
    if (!process_reaped(pid, status)) request_reaped(pid);
}

/* Moves bytes until nothing moves any more or the peer does not take more. */
static void work(void) {
  bool moved;
  do {
    moved = channel_parse();
    moved |= process_pump();
    moved |= request_pump();
    channel_flush();
  } while (moved);
}

static void turn(int signal_fd) {
  polled_count = 0;
  wake_time = INT64_MAX;
  int signal_slot = poll_add(signal_fd, POLLIN);
  channel_poll();
  process_poll();
  request_poll();
  drain_poll();
  int64_t wait_ms = wake_time == INT64_MAX ? -1 : wake_time - now_ms();
  if (wait_ms < -1) wait_ms = 0;
  if (wait_ms > 60000) wait_ms = 60000;
  if (wake_time != INT64_MAX && wait_ms < 0) wait_ms = 0;
  if (poll(polled, (nfds_t)polled_count, (int)wait_ms) < 0) return;
  process_events();
  request_events();
  drain_events();
  if (poll_ready(signal_slot)) reap(signal_fd);
  process_timers();
  channel_events();
  work();
}

static int loop(void) {
  sigset_t children;
  for (;;) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0 || fd > 2) {
      if (fd >= 0) close(fd);
      break;
    }
    fcntl(fd, F_SETFD, 0);
  }
  signal(SIGPIPE, SIG_IGN);
  prctl(PR_SET_DUMPABLE, 0); /* processes of the capsule do not look into its init */
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, NULL);
  int signal_fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  if (signal_fd < 0) return 1;
  session_start();
  process_init();
  request_init();
  for (;;) turn(signal_fd);
}

/* A container's init is born with the streams of the program that started it, which waits for their end. */
static void let_go_of_streams(void) {
  int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int stream = 0; fd >= 0 && stream <= 2; stream++) dup2(fd, stream);
  if (fd > 2) close(fd);
}

int serve_listener(int fd) {
  if (getpid() == 1) let_go_of_streams();
  channel_open_listener(fd);
  return loop();
}

int serve_port(const char *path) {
  channel_open_port(path);
  return loop();
}

int serve_pipes(void) {
  int in_fd = fcntl(0, F_DUPFD_CLOEXEC, 3), out_fd = fcntl(1, F_DUPFD_CLOEXEC, 3);
  if (in_fd < 0 || out_fd < 0) return 1;
  let_go_of_streams();
  channel_open_pipes(in_fd, out_fd);
  return loop();
}
