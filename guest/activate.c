/* Runs on the host: gives a container that was started empty its disk, which makes it a capsule. Whatever takes rights is done out
 * here; the container's init keeps the few it was started with, and finds itself on another root. Nothing of the disk runs before. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.h"

#ifndef SYS_open_tree
#define SYS_open_tree 428
#endif
#ifndef SYS_move_mount
#define SYS_move_mount 429
#endif
#ifndef SYS_fsopen
#define SYS_fsopen 430
#define SYS_fsconfig 431
#define SYS_fsmount 432
#endif
#ifndef SYS_openat2
#define SYS_openat2 437
#endif

/* Of <linux/mount.h> and <linux/openat2.h>, which not every libc brings. */
enum {
  CLOSE_ON_EXEC = 0x01,   /* FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC */
  SET_FLAG = 0,           /* FSCONFIG_SET_FLAG */
  SET_STRING = 1,         /* FSCONFIG_SET_STRING */
  CREATE = 6,             /* FSCONFIG_CMD_CREATE */
  NO_SETUID = 0x02,       /* MOUNT_ATTR_NOSUID */
  NO_DEVICES = 0x04,      /* MOUNT_ATTR_NODEV */
  CLONE_TREE = 0x01,      /* OPEN_TREE_CLONE */
  FROM_DESCRIPTOR = 0x04, /* MOVE_MOUNT_F_EMPTY_PATH */
  TO_DESCRIPTOR = 0x40,   /* MOVE_MOUNT_T_EMPTY_PATH */
  NO_OTHER_MOUNT = 0x01,  /* RESOLVE_NO_XDEV */
  NO_MAGIC_LINKS = 0x02,  /* RESOLVE_NO_MAGICLINKS */
  IN_ROOT = 0x10          /* RESOLVE_IN_ROOT */
};
enum { LINKS_MAX = 64, VALUE_MAX = 255 };

/* What the container was started with: its empty root holds these, and a place for the disk. */
static const char disk_path[] = "/disk";
static const char *const directories[] = {"/proc", "/dev", "/sys", NULL};
static const char *const files[] = {"/etc/resolv.conf", "/etc/hosts", "/etc/hostname", "/.caisson/agent", NULL};

static _Noreturn void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  exit(1);
}

static void must(bool done, const char *what) {
  if (!done) fail(what);
}

/* ---- the container, which may have died and its number may be another's by now ---- */

static int open_process(const char *pid, const char *start_ticks) {
  char path[64], line[1024];
  snprintf(path, sizeof path, "/proc/%.20s", pid);
  int process = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  must(process >= 0, path);
  int fd = openat(process, "stat", O_RDONLY | O_CLOEXEC);
  ssize_t got = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
  must(got > 0, path);
  close(fd);
  line[got] = 0;
  char *at = strrchr(line, ')'); /* the name before it may hold anything */
  for (int field = 0; at && field < 20; field++) at = strchr(at + 1, ' ');
  errno = ESRCH;
  must(at && strtoull(at, NULL, 10) == strtoull(start_ticks, NULL, 10), path);
  return process;
}

static int open_namespace(int process, const char *name) {
  int fd = openat(process, name, O_RDONLY | O_CLOEXEC);
  must(fd >= 0, name);
  return fd;
}

/* ---- places on the disk, whose links are a stranger's ---- */

static int open_inside(int root, const char *path) {
  struct {
    uint64_t flags, mode, resolve;
  } how = {O_PATH | O_CLOEXEC, 0, IN_ROOT | NO_MAGIC_LINKS | NO_OTHER_MOUNT};
  return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

static int make_inside(int root, const char *path, bool directory, int depth);

/* Makes the last part of a path that leads nowhere, or goes where the link in its place points. */
static int make_last(int root, const char *path, bool directory, int depth) {
  char parent[PATH_MAX], link[PATH_MAX], joined[2 * PATH_MAX];
  const char *name = strrchr(path, '/') + 1;
  snprintf(parent, sizeof parent, "%.*s", (int)(name - path - (name - path > 1)), path);
  int place = make_inside(root, parent, true, depth + 1);
  if (place < 0) return -1;
  ssize_t length = readlinkat(place, name, link, sizeof link - 1);
  if (length >= 0) {
    link[length] = 0;
    snprintf(joined, sizeof joined, "%s/%s", parent, link);
    close(place);
    return make_inside(root, *link == '/' ? link : joined, directory, depth + 1);
  }
  int made = directory ? mkdirat(place, name, 0755) : openat(place, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (made > 0) close(made);
  close(place);
  return made < 0 && errno != EEXIST ? -1 : open_inside(root, path);
}

static int make_inside(int root, const char *path, bool directory, int depth) {
  int fd = open_inside(root, path);
  if (fd >= 0 || errno != ENOENT) return fd;
  if (depth >= LINKS_MAX || strlen(path) >= PATH_MAX) {
    errno = ELOOP;
    return -1;
  }
  return make_last(root, path, directory, depth);
}

/* A place to mount on: of the right type, on the disk itself and not its root. */
static int place_inside(int root, const char *path, bool directory) {
  struct stat at, top;
  int fd = make_inside(root, path, directory, 0);
  must(fd >= 0 && fstat(fd, &at) == 0 && fstat(root, &top) == 0, path);
  errno = directory ? ENOTDIR : EISDIR;
  must((bool)S_ISDIR(at.st_mode) == directory, path);
  errno = EXDEV;
  must(at.st_dev != top.st_dev || at.st_ino != top.st_ino, path);
  return fd;
}

static void attach(int tree, int to, const char *what) {
  must(to >= 0 && syscall(SYS_move_mount, tree, "", to, "", FROM_DESCRIPTOR | TO_DESCRIPTOR) == 0, what);
  close(to);
}

static void move_own(int root, const char *path, bool directory) {
  int own = open(path, O_PATH | O_CLOEXEC);
  must(own >= 0, path);
  attach(own, place_inside(root, path, directory), path);
  close(own);
}

/* ---- the steps ---- */

static void become_root_inside(int user_namespace) {
  must(setgroups(0, NULL) == 0, "groups"); /* those of the host's root */
  must(setns(user_namespace, CLONE_NEWUSER) == 0, "user namespace");
  must(setgid(0) == 0 && setuid(0) == 0, "root of the user namespace");
}

static void limit_shm(const char *bytes) {
  char options[64];
  snprintf(options, sizeof options, "size=%.20s", bytes);
  must(mount("tmpfs", "/dev/shm", "tmpfs", MS_REMOUNT | MS_NOSUID | MS_NODEV, options) == 0, "/dev/shm");
}

static void show_read_only(int tree, int root, const char *path) {
  attach(tree, place_inside(root, path, true), path);
  must(fchdir(tree) == 0, path);
  /* A copy of a shared mount is shared: what the host mounts there later would come along. */
  must(mount(NULL, ".", NULL, MS_PRIVATE, NULL) == 0, path);
  must(mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) == 0, path);
  close(tree);
}

/* The kernel moves every process of the container whose root or directory was the old root. */
static void enter_disk(int root) {
  int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
  must(old >= 0 && fchdir(root) == 0, "root");
  must(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
  must(fchdir(old) == 0 && umount2(".", MNT_DETACH) == 0, "old root");
}

/* Makes a mount that is nowhere yet. The names of the layers are relative to our directory. -1 when the options are not fit for it: the
 * kernel takes values of at most 255 bytes this way, and its versions do not agree on escapes. */
static int make_disk(const char *options) {
  char copy[4096], *rest = copy;
  if (strlen(options) >= sizeof copy || strchr(options, '\\')) return -1;
  strcpy(copy, options);
  int disk = (int)syscall(SYS_fsopen, "overlay", CLOSE_ON_EXEC);
  if (disk < 0) return -1;
  for (char *key; (key = strsep(&rest, ","));) {
    char *value = strchr(key, '=');
    if (value) *value++ = 0;
    if (value && strlen(value) > VALUE_MAX) return -1;
    must(syscall(SYS_fsconfig, disk, value ? SET_STRING : SET_FLAG, key, value, 0) == 0, key);
  }
  must(syscall(SYS_fsconfig, disk, CREATE, NULL, NULL, 0) == 0, "disk");
  int mounted = (int)syscall(SYS_fsmount, disk, CLOSE_ON_EXEC, NO_SETUID | NO_DEVICES);
  must(mounted >= 0, "disk");
  return mounted;
}

/* The way for everything else. The kernel takes layers only from the mount namespace of who mounts, so this is done in a copy of ours,
 * which nobody else sees; giving the copy up takes longer than all the rest. */
static int mount_disk(const char *place, const char *options) {
  must(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "a mount namespace");
  must(mount("overlay", place, "overlay", MS_NODEV | MS_NOSUID, options) == 0, "disk");
  int disk = (int)syscall(SYS_open_tree, AT_FDCWD, place, CLONE_TREE | O_CLOEXEC);
  must(disk >= 0, "disk");
  return disk;
}

int run_activate(int count, char **words) {
  enum { PID, START, HOSTNAME, SHM_BYTES, PLACE, OVERLAY, BINDS };
  int binds = (count - BINDS) / 2, trees[binds + 1];
  char **bind = words + BINDS;
  int process = open_process(words[PID], words[START]);
  int user = open_namespace(process, "ns/user"), uts = open_namespace(process, "ns/uts");
  int mounts = open_namespace(process, "ns/mnt");
  int disk = make_disk(words[OVERLAY]);
  if (disk < 0) disk = mount_disk(words[PLACE], words[OVERLAY]);
  for (int i = 0; i < binds; i++) {
    trees[i] = (int)syscall(SYS_open_tree, AT_FDCWD, bind[2 * i], CLONE_TREE | O_CLOEXEC);
    must(trees[i] >= 0, bind[2 * i]);
  }
  must(setns(mounts, CLONE_NEWNS) == 0 && setns(uts, CLONE_NEWUTS) == 0, "namespaces of the container");
  become_root_inside(user);
  must(sethostname(words[HOSTNAME], strlen(words[HOSTNAME])) == 0, "hostname");
  limit_shm(words[SHM_BYTES]);
  attach(disk, open(disk_path, O_PATH | O_CLOEXEC), "disk");
  for (int i = 0; directories[i]; i++) move_own(disk, directories[i], true);
  for (int i = 0; files[i]; i++) move_own(disk, files[i], false);
  for (int i = 0; i < binds; i++) show_read_only(trees[i], disk, bind[2 * i + 1]);
  enter_disk(disk);
  return 0;
}
