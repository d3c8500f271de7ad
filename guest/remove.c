/* Removes a tree by descriptors only, so that no name on the way can be swapped for a symlink while it is being walked.
 * Descriptors bound the depth; what lies deeper is moved up to the top first, which no rename can turn into an escape. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

enum { DEPTH_MAX = 32 };

static int top_fd;
static unsigned long lifted;

static int lift(int directory, const char *name) {
  char lifted_name[40];
  for (int attempt = 0; attempt < 1000; attempt++) {
    struct stat info;
    snprintf(lifted_name, sizeof lifted_name, ".caisson-removing-%lu", lifted++);
    if (fstatat(top_fd, lifted_name, &info, AT_SYMLINK_NOFOLLOW) == 0) continue;
    return renameat(directory, name, top_fd, lifted_name);
  }
  errno = EEXIST;
  return -1;
}

static int empty(int directory, int depth);

static int remove_entry(int directory, const char *name, int depth) {
  if (unlinkat(directory, name, 0) == 0 || errno == ENOENT) return 0;
  if (errno != EISDIR && errno != EPERM) return -1;
  int failure = errno;
  if (unlinkat(directory, name, AT_REMOVEDIR) == 0) return 0;
  if (errno == ENOENT) return 0;
  if (errno == ENOTDIR) errno = failure;
  if (errno != ENOTEMPTY && errno != EEXIST) return -1;
  if (depth == DEPTH_MAX) return lift(directory, name);
  int child = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (child < 0) return -1;
  return empty(child, depth + 1) < 0 ? -1 : unlinkat(directory, name, AT_REMOVEDIR);
}

/* One pass over a directory; how many entries were dealt with, or -1. */
static long empty_once(DIR *stream, int depth) {
  long count = 0;
  rewinddir(stream);
  for (struct dirent *entry; errno = 0, (entry = readdir(stream)); count++) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
      count--;
      continue;
    }
    if (remove_entry(dirfd(stream), entry->d_name, depth) < 0) return -1;
  }
  return errno ? -1 : count;
}

/* Takes over the descriptor. Passes repeat while they find something: a listing may skip names when others go. */
static int empty(int directory, int depth) {
  DIR *stream = fdopendir(directory);
  long count;
  if (!stream) {
    close(directory);
    return -1;
  }
  do count = empty_once(stream, depth);
  while (count > 0);
  int failure = errno;
  closedir(stream);
  errno = failure;
  return count < 0 ? -1 : 0;
}

int remove_tree(const char *path) {
  top_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (top_fd < 0) return -1;
  int stream_fd = fcntl(top_fd, F_DUPFD_CLOEXEC, 3);
  if (stream_fd < 0 || empty(stream_fd, 1) < 0) return -1;
  return rmdir(path);
}
