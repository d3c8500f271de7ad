/* caisson-agent: `listen` opens the capsule's socket on the host, `serve` is the init inside the capsule. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent.h"

enum { LISTEN_FD = 3 };

static int fail(const char *what) {
  fprintf(stderr, "caisson-agent: %s: %s\n", what, strerror(errno));
  return 1;
}

static int usage(void) {
  fputs("usage: caisson-agent listen <socket> -- <program> [argument...]\n"
        "       caisson-agent serve [port]\n"
        "       caisson-agent serve-pipes\n"
        "       caisson-agent name <hostname>\n"
        "       caisson-agent activate <pid> <start ticks> <hostname> <shm bytes> <mount point> <options> [<from> <to>]...\n", stderr);
  return 2;
}

static int run_listen(const char *path, char **program) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return fail(path);
  }
  strcpy(address.sun_path, path);
  if (unlink(path) < 0 && errno != ENOENT) return fail(path);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0) return fail("socket");
  mode_t before = umask(0177);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 16) < 0) return fail(path);
  umask(before);
  if (fd != LISTEN_FD && (dup2(fd, LISTEN_FD) < 0 || close(fd) < 0)) return fail("descriptor 3");
  execvp(program[0], program);
  return fail(program[0]);
}

static int run_serve(const char *port) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (port) return serve_port(port);
  if (getsockopt(LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening) {
    fputs("caisson-agent: descriptor 3 is not a listening socket\n", stderr);
    return 1;
  }
  return serve_listener(LISTEN_FD);
}

int main(int count, char **arguments) {
  if (count >= 5 && strcmp(arguments[1], "listen") == 0 && strcmp(arguments[3], "--") == 0)
    return run_listen(arguments[2], arguments + 4);
  if (count >= 2 && strcmp(arguments[1], "boot") == 0) return vm_boot(arguments + 2);
  if (count >= 2 && strcmp(arguments[1], "rehearse") == 0) return vm_rehearse(arguments + 2);
  if (count >= 3 && strcmp(arguments[1], "warm-up") == 0) return vm_warm_up(arguments + 2);
  if (count == 2 && strcmp(arguments[1], "sync") == 0) return vm_sync();
  if (count == 2 && strcmp(arguments[1], "full") == 0) return vm_full();
  if (count == 2 && strcmp(arguments[1], "hold") == 0) return vm_hold();
  if (count == 2 && strcmp(arguments[1], "tsc") == 0) return vm_tsc();
  if (count >= 3 && strcmp(arguments[1], "give-files") == 0) return vm_give_files(arguments[2], arguments + 3);
  if (count >= 9 && strcmp(arguments[1], "jail") == 0) return run_jail(arguments + 2);
  if (count >= 8 && count % 2 == 0 && strcmp(arguments[1], "activate") == 0) return run_activate(count - 2, arguments + 2);
  if (count == 2 && strcmp(arguments[1], "serve-pipes") == 0) return serve_pipes();
  if (count == 3 && strcmp(arguments[1], "name") == 0)
    return sethostname(arguments[2], strlen(arguments[2])) < 0 ? fail(arguments[2]) : 0;
  if ((count == 2 || count == 3) && strcmp(arguments[1], "serve") == 0) return run_serve(arguments[2]);
  return usage();
}
