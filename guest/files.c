/* One file request, inside its own process. It may block and it may fail: the agent does not notice but by its packets. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "agent.h"

enum { CONTROL_FD = 3, DATA_FD = 4, MODE_UNSET = -1 };

static uint8_t buffer[DATA_CHUNK_BYTES];

static void tell(uint8_t type, const void *payload, size_t length) {
  struct iovec parts[2] = {{&type, 1}, {(void *)payload, length}};
  struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
  while (sendmsg(CONTROL_FD, &message, MSG_NOSIGNAL) < 0)
    if (errno != EINTR) _exit(1);
}

static _Noreturn void refuse(uint16_t code, const char *why) {
  uint8_t report[2 + MESSAGE_BYTES_MAX];
  size_t length = strlen(why) < MESSAGE_BYTES_MAX - 2 ? strlen(why) : MESSAGE_BYTES_MAX - 2;
  put16(report, code);
  memcpy(report + 2, why, length);
  tell(A_REQUEST_ERROR, report, 2 + length);
  _exit(0);
}

static _Noreturn void refuse_errno(void) { refuse(error_code(errno), strerror(errno)); }

static _Noreturn void done(void) {
  tell(A_DONE, NULL, 0);
  _exit(0);
}

/* ---- stat and list ---- */

static uint8_t type_of(mode_t mode) {
  if (S_ISREG(mode)) return 1;
  if (S_ISDIR(mode)) return 2;
  return S_ISLNK(mode) ? 3 : 4;
}

enum { ENTRY_BYTES = 31 };

/* type, mode, uid, gid, size, modified (ms), length of the name, the name */
static size_t put_entry(uint8_t *at, const struct stat *info, const char *name) {
  size_t length = strlen(name);
  at[0] = type_of(info->st_mode);
  put32(at + 1, info->st_mode & 07777);
  put32(at + 5, info->st_uid);
  put32(at + 9, info->st_gid);
  put64(at + 13, (uint64_t)info->st_size);
  put64(at + 21, (uint64_t)((int64_t)info->st_mtim.tv_sec * 1000 + info->st_mtim.tv_nsec / 1000000));
  put16(at + 29, (uint16_t)length);
  memcpy(at + ENTRY_BYTES, name, length);
  return ENTRY_BYTES + length;
}

/* The last part of a path, without slashes behind it; the root's name is "/". */
static const char *name_of(char *path) {
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') path[--length] = 0;
  return length == 1 ? path : strrchr(path, '/') + 1;
}

static _Noreturn void run_stat(char *path) {
  struct stat info;
  if (lstat(path, &info) < 0) refuse_errno();
  tell(A_ENTRIES, buffer, put_entry(buffer, &info, name_of(path)));
  done();
}

static _Noreturn void run_list(const char *path) {
  DIR *directory = opendir(path);
  struct stat info;
  size_t filled = 0;
  if (!directory) refuse_errno();
  for (struct dirent *entry; errno = 0, (entry = readdir(directory));) {
    if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    if (fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0) continue; /* gone since */
    if (filled + ENTRY_BYTES + strlen(entry->d_name) > sizeof buffer) {
      tell(A_ENTRIES, buffer, filled);
      filled = 0;
    }
    filled += put_entry(buffer + filled, &info, entry->d_name);
  }
  if (errno) refuse_errno();
  if (filled > 0) tell(A_ENTRIES, buffer, filled);
  done();
}

/* ---- read ---- */

static _Noreturn void run_read(const char *path) {
  struct stat info;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 || fstat(fd, &info) < 0) refuse_errno();
  if (!S_ISREG(info.st_mode)) refuse(E_INVALID_ARGUMENT, S_ISDIR(info.st_mode) ? "is a directory" : "not a regular file");
  for (;;) {
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse_errno();
    if (got == 0) done();
    tell(A_DATA, buffer, (size_t)got);
  }
}

/* ---- write ---- */

static char temporary[PATH_MAX];

/* The file to replace: the path itself, or where its last part leads when that is a symlink. */
static const char *resolve_target(char *path, struct stat *info, bool *exists) {
  static char resolved[PATH_MAX];
  *exists = lstat(path, info) == 0;
  if (!*exists && errno != ENOENT) refuse_errno();
  if (*exists && S_ISLNK(info->st_mode)) {
    if (!realpath(path, resolved) || stat(resolved, info) < 0) refuse_errno();
    path = resolved;
  }
  if (*exists && !S_ISREG(info->st_mode))
    refuse(E_INVALID_ARGUMENT, S_ISDIR(info->st_mode) ? "is a directory" : "not a regular file");
  if (path[strlen(path) - 1] == '/') refuse(E_INVALID_ARGUMENT, "a file's path does not end in a slash");
  return path;
}

static int open_temporary(const char *target) {
  uint64_t random;
  int directory = (int)(strrchr(target, '/') - target) + 1;
  for (int attempt = 0; attempt < 8; attempt++) {
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) != (ssize_t)sizeof random)
      random = (uint64_t)getpid() << 32 | (uint64_t)attempt;
    int length = snprintf(temporary, sizeof temporary, "%.*s.caisson-%016llx", directory, target, (unsigned long long)random);
    if (length < 0 || (size_t)length >= sizeof temporary) {
      errno = ENAMETOOLONG;
      return -1;
    }
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd >= 0 || errno != EEXIST) return fd;
  }
  return -1;
}

static _Noreturn void abandon(void) {
  int failure = errno;
  unlink(temporary);
  errno = failure;
  refuse_errno();
}

/* Copies the pipe until its end; true when the host said that this was all. */
static bool receive_file(int fd) {
  for (;;) {
    ssize_t got = read(DATA_FD, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) abandon();
    if (got == 0) {
      uint8_t commit;
      return recv(CONTROL_FD, &commit, 1, MSG_DONTWAIT) == 1;
    }
    for (ssize_t at = 0; at < got;) {
      ssize_t written = write(fd, buffer + at, (size_t)(got - at));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) abandon();
      at += written;
    }
  }
}

static _Noreturn void run_write(char *path, int32_t mode) {
  struct stat info;
  bool exists;
  const char *target = resolve_target(path, &info, &exists);
  int fd = open_temporary(target);
  if (fd < 0) refuse_errno();
  if (!receive_file(fd)) {
    unlink(temporary);
    _exit(0);
  }
  /* A file that is replaced keeps its owner, and its mode unless another is asked for. */
  if (exists && fchown(fd, info.st_uid, info.st_gid) < 0 && errno != EPERM) abandon();
  mode_t final = mode == MODE_UNSET ? (exists ? info.st_mode & 07777 : 0644) : (mode_t)mode & 07777;
  if (fchmod(fd, final) < 0 || close(fd) < 0 || rename(temporary, target) < 0) abandon();
  done();
}

/* ---- mkdir and remove ---- */

static bool is_directory(const char *path) {
  struct stat info;
  return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static _Noreturn void run_mkdir(char *path, bool parents, mode_t mode) {
  name_of(path);
  for (char *slash = path; parents && (slash = strchr(slash + 1, '/'));) {
    *slash = 0;
    if (mkdir(path, 0755) < 0 && !(errno == EEXIST && is_directory(path))) {
      if (errno == EEXIST) errno = ENOTDIR;
      refuse_errno();
    }
    *slash = '/';
  }
  if (mkdir(path, 0700) == 0) {
    if (chmod(path, mode & 07777) < 0) refuse_errno();
    done();
  }
  if (parents && errno == EEXIST && is_directory(path)) done();
  refuse_errno();
}

static _Noreturn void run_remove(char *path, bool recursive) {
  struct stat info;
  const char *name = name_of(path);
  if (strcmp(path, "/") == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
    refuse(E_INVALID_ARGUMENT, "this directory cannot be removed");
  if (lstat(path, &info) < 0) refuse_errno();
  if (!S_ISDIR(info.st_mode)) {
    if (unlink(path) < 0) refuse_errno();
  } else if (rmdir(path) < 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) refuse_errno();
    if (!recursive) refuse(E_INVALID_ARGUMENT, "the directory is not empty");
    if (remove_tree(path) < 0) refuse_errno();
  }
  done();
}

_Noreturn void files_run(const struct file_request *request, int control_fd, int data_fd) {
  static char path[PATH_BYTES_MAX + 1];
  /* Both move to their places by way of high numbers, because they may lie on one another's. */
  int control = fcntl(control_fd, F_DUPFD_CLOEXEC, 10), data = data_fd < 0 ? -1 : fcntl(data_fd, F_DUPFD_CLOEXEC, 10);
  if (control < 0 || dup3(control, CONTROL_FD, O_CLOEXEC) < 0) _exit(1);
  if (data >= 0) dup3(data, DATA_FD, O_CLOEXEC);
  close_from(data >= 0 ? DATA_FD + 1 : CONTROL_FD + 1);
  umask(0);
  strcpy(path, request->path);
  switch (request->type) {
    case F_STAT:
      run_stat(path);
    case F_LIST:
      run_list(path);
    case F_READ:
      run_read(path);
    case F_WRITE:
      run_write(path, (int32_t)request->argument);
    case F_MKDIR:
      run_mkdir(path, request->flags & FLAG_MKDIR_PARENTS, (mode_t)request->argument);
    case F_REMOVE:
      run_remove(path, request->flags & FLAG_REMOVE_RECURSIVE);
  }
  _exit(1);
}
