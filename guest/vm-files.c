/* Runs on the host: hands open files to a QEMU that runs already, which no runtime of scripts can do by itself. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent.h"

enum { FIRST_FD = 3, ANSWER_MS = 10000, LINE_MAX_BYTES = 4096 };

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "caisson-agent: give-files: %s: %s\n", what, strerror(errno));
  exit(1);
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    fail(path);
  }
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) fail(path);
  return fd;
}

/* Reads lines until one holds the word; QEMU may have been taken over by its guest, so neither time nor length is without bound. */
static void await(int fd, const char *word) {
  static char line[LINE_MAX_BYTES];
  for (size_t length = 0; length < sizeof line - 1;) {
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    if (poll(&readable, 1, ANSWER_MS) <= 0 || read(fd, line + length, 1) != 1) break;
    if (line[length++] != '\n') continue;
    line[length] = 0;
    if (strstr(line, word)) return;
    if (strstr(line, "\"error\"")) break;
    length = 0;
  }
  errno = EPROTO;
  fail("QEMU");
}

static void give(int socket_fd, int fd, int set) {
  char text[128];
  int length = snprintf(text, sizeof text, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":%d}}\n", set);
  struct iovec part = {text, (size_t)length};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
  } control = {{0}};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  if (sendmsg(socket_fd, &message, MSG_NOSIGNAL) != length) fail("send");
  await(socket_fd, "\"return\"");
}

int vm_give_files(const char *socket_path, char **sets) {
  static const char negotiate[] = "{\"execute\":\"qmp_capabilities\"}\n";
  int fd = connect_to(socket_path);
  await(fd, "\"QMP\"");
  if (write(fd, negotiate, sizeof negotiate - 1) < 0) fail("send");
  await(fd, "\"return\"");
  for (int i = 0; sets[i]; i++) give(fd, FIRST_FD + i, atoi(sets[i]));
  return 0;
}
