/* The way from the kernel's first process to the agent of a micro-virtual machine: modules, disks, root, limits, port. A machine that
 * becomes a template waits half way, without any disk: its clones hear from their hosts which machine they are. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

enum { LAYERS_MAX = 32, BINDS_MAX = 8, DISKS_MAX = 64, RESOLVERS_MAX = 3, DEVICE_WAIT_MS = 10000, OPEN_FILES = 1048576 };

/* What the kernel command line says behind "boot", or the host of a clone, as name=value. */
struct boot {
  const char *hostname, *machine, *pids, *memory;
  int layers;
  const char *binds[BINDS_MAX];
  int bind_count;
  const char *address, *gateway; /* NULL without a network */
  const char *resolvers[RESOLVERS_MAX];
  int resolver_count;
};

static char port_path[64];
/* Where each disk is, by its number: first the one written to, then the layers, then the binds. */
static char disks[DISKS_MAX][32];
static int state_fd = -1;
static bool is_machine, is_waiting;

/* The console is all there is to speak to; the host reads it when no agent comes up. An init that ends makes the kernel panic. */
static _Noreturn void give_up(const char *what, const char *object) {
  fprintf(stderr, "caisson: boot: %s %s: %s\n", what, object, strerror(errno));
  exit(1);
}

static void must_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
  mkdir(target, 0755);
  if (mount(source, target, type, flags, data) < 0) give_up("mount", target);
}

static void write_text(const char *path, const char *text, mode_t mode) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) give_up("open", path);
  if (write(fd, text, strlen(text)) < 0) give_up("write", path);
  close(fd);
}

/* The first line of a small file of the kernel, without its end; false when there is none. */
static bool read_line(const char *path, char *line, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t got = read(fd, line, size - 1);
  close(fd);
  if (got < 0) return false;
  line[got] = 0;
  line[strcspn(line, "\n")] = 0;
  return true;
}

static int visible(const struct dirent *entry) { return entry->d_name[0] != '.'; }

/* In the order of their names, which the host numbered so that each finds what it needs. */
static void load_modules(const char *directory) {
  struct dirent **entries;
  char path[PATH_MAX];
  int count = scandir(directory, &entries, visible, alphasort);
  for (int i = 0; i < count; i++) {
    snprintf(path, sizeof path, "%s/%s", directory, entries[i]->d_name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST)) give_up("module", path);
    close(fd);
    unlink(path); /* the memory of a template is shared, but not free */
  }
}

/* Looks for the entry of a class directory whose attribute has this value, until it is there. */
static void find_device(const char *class, const char *attribute, const char *value, char *name, size_t size) {
  char path[PATH_MAX], line[64];
  for (int waited = 0; waited < DEVICE_WAIT_MS; waited += 2) {
    DIR *directory = opendir(class);
    if (directory) {
      for (struct dirent *entry; (entry = readdir(directory));) {
        snprintf(path, sizeof path, "%s/%s/%s", class, entry->d_name, attribute);
        if (entry->d_name[0] == '.' || !read_line(path, line, sizeof line) || strcmp(line, value) != 0) continue;
        snprintf(name, size, "/dev/%.40s", entry->d_name);
        closedir(directory);
        return;
      }
      closedir(directory);
    }
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
  }
  errno = ENODEV;
  give_up("device", value);
}

/* Every place for a disk has a device, whether or not there is one yet; a clone finds them where its template did. */
static void find_disks(void) {
  char path[PATH_MAX], serial[64];
  DIR *directory = opendir("/sys/class/block");
  for (struct dirent *entry; directory && (entry = readdir(directory));) {
    snprintf(path, sizeof path, "/sys/class/block/%s/serial", entry->d_name);
    if (entry->d_name[0] == '.' || !read_line(path, serial, sizeof serial) || strncmp(serial, "disk", 4) != 0) continue;
    int number = atoi(serial + 4);
    if (number >= 0 && number < DISKS_MAX) snprintf(disks[number], sizeof disks[number], "/dev/%.20s", entry->d_name);
  }
  if (directory) closedir(directory);
}

static void mount_disk(int number, const char *target, bool writable) {
  mkdir(target, 0755);
  if (writable) {
    if (mount(disks[number], target, "ext4", MS_NODEV | MS_NOATIME, "lazytime") < 0) give_up("mount", target);
  } else if (mount(disks[number], target, "erofs", MS_RDONLY | MS_NODEV, NULL) < 0) give_up("mount", target);
}

static const char *state_files[] = {"hosts", "hostname", "resolv.conf", "machine-id", NULL};

static void write_state(const char *name, const char *format, const char *value) {
  int fd = openat(state_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || dprintf(fd, format, value) < 0) give_up("write", name);
  close(fd);
}

/* The files a machine is known by, which stay the same files when it gets other names. */
static void write_names(const struct boot *boot) {
  if (!boot->hostname) return;
  write_state("hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n127.0.1.1 %s\n", boot->hostname);
  write_state("hostname", "%s\n", boot->hostname);
  write_state("machine-id", "%s\n", boot->machine);
  if (sethostname(boot->hostname, strlen(boot->hostname)) < 0) give_up("hostname", boot->hostname);
}

/* Places for what is mounted inside, as the lowest layer, so that none of them gets into a disk that is kept. */
static void make_skeleton(const struct boot *boot) {
  static const char *directories[] = {"proc", "sys", "dev", "etc", "tmp"};
  char text[1024], path[PATH_MAX];
  must_mount("skeleton", "/skeleton", "tmpfs", 0, "mode=755,size=1m");
  for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
    snprintf(path, sizeof path, "/skeleton/%s", directories[i]);
    mkdir(path, strcmp(directories[i], "tmp") == 0 ? 01777 : 0755);
  }
  must_mount("state", "/state", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=755,size=1m");
  state_fd = open("/state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  write_names(boot);
  size_t at = 0;
  text[0] = 0;
  for (int i = 0; i < boot->resolver_count; i++)
    at += (size_t)snprintf(text + at, sizeof text - at, "nameserver %.64s\n", boot->resolvers[i]);
  write_text("/state/resolv.conf", text, 0644);
  for (const char **name = state_files; *name; name++) {
    snprintf(path, sizeof path, "/skeleton/etc/%s", *name);
    write_text(path, "", 0644);
  }
}

/* The disk: read-only layers, top first, under what this machine writes itself. */
static void mount_root(const struct boot *boot) {
  char target[64], options[LAYERS_MAX * 16 + 256];
  size_t at = (size_t)snprintf(options, sizeof options, "redirect_dir=on,index=off,metacopy=off,lowerdir=");
  mkdir("/layers", 0755);
  for (int i = 0; i < boot->layers; i++) {
    snprintf(target, sizeof target, "/layers/%d", i);
    mount_disk(1 + i, target, false);
    at += (size_t)snprintf(options + at, sizeof options - at, "%s:", target);
  }
  make_skeleton(boot);
  snprintf(options + at, sizeof options - at, "/skeleton,upperdir=/own/upper,workdir=/own/work");
  mount_disk(0, "/own", true);
  mkdir("/own/upper", 0755);
  mkdir("/own/work", 0700);
  must_mount("root", "/root", "overlay", 0, options);
}

/* What is on the image may lead anywhere, but everything outside of its root is a few empty directories of this machine's own. */
static void mount_inside(void) {
  char source[64], target[PATH_MAX];
  must_mount("proc", "/root/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  must_mount("sysfs", "/root/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  must_mount("devtmpfs", "/root/dev", "devtmpfs", MS_NOSUID, "mode=755");
  must_mount("devpts", "/root/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  must_mount("tmpfs", "/root/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
  must_mount("mqueue", "/root/dev/mqueue", "mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
  unlink("/root/dev/ptmx");
  if (symlink("pts/ptmx", "/root/dev/ptmx") < 0) give_up("link", "/dev/ptmx");
  static const char *links[][2] = {{"/proc/self/fd", "/root/dev/fd"}, {"/proc/self/fd/0", "/root/dev/stdin"},
                                   {"/proc/self/fd/1", "/root/dev/stdout"}, {"/proc/self/fd/2", "/root/dev/stderr"}};
  for (size_t i = 0; i < sizeof links / sizeof *links; i++) symlink(links[i][0], links[i][1]);
  for (const char **name = state_files; *name; name++) {
    snprintf(source, sizeof source, "/state/%s", *name);
    snprintf(target, sizeof target, "/root/etc/%s", *name);
    if (mount(source, target, NULL, MS_BIND, NULL) < 0) give_up("mount", target);
  }
}

static void make_parents(char *path) {
  for (char *at = path + 1; (at = strchr(at, '/')); at++) {
    *at = 0;
    mkdir(path, 0755);
    *at = '/';
  }
}

static void mount_binds(const struct boot *boot) {
  char target[PATH_MAX];
  for (int i = 0; i < boot->bind_count; i++) {
    if ((size_t)snprintf(target, sizeof target, "/root%s", boot->binds[i]) >= sizeof target) give_up("mount", boot->binds[i]);
    make_parents(target);
    mount_disk(1 + boot->layers + i, target, false);
  }
}

static void enter_root(void) {
  if (chdir("/root") < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
    give_up("enter", "/root");
}

/* The same limits a container has, counted by this machine's own kernel; the agent counts too, as it does there. */
static void set_limits(const struct boot *boot) {
  struct rlimit files = {.rlim_cur = 65536, .rlim_max = OPEN_FILES};
  setrlimit(RLIMIT_NOFILE, &files);
  /* A program may ask for more than the machine has, as on a big host: what it uses is what is limited. */
  write_text("/proc/sys/vm/overcommit_memory", "1", 0644);
  /* Every program joins a group when it starts, which otherwise waits until no processor reads the list of groups: 10 ms and more. */
  must_mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, "favordynmods");
  write_text("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids", 0644);
  mkdir(CAPSULE_GROUP, 0755);
  write_text(CAPSULE_GROUP "/pids.max", boot->pids, 0644);
  write_text(CAPSULE_GROUP "/memory.max", boot->memory, 0644);
  write_text(CAPSULE_GROUP "/cgroup.procs", "0", 0644);
  mkdir(CAPSULE_GROUP "/programs", 0755);
}

static bool read_word(struct boot *boot, const char *word) {
  if (strncmp(word, "hostname=", 9) == 0) boot->hostname = word + 9;
  else if (strncmp(word, "machine=", 8) == 0) boot->machine = word + 8;
  else if (strncmp(word, "pids=", 5) == 0) boot->pids = word + 5;
  else if (strncmp(word, "memory=", 7) == 0) boot->memory = word + 7;
  else if (strncmp(word, "layers=", 7) == 0) boot->layers = atoi(word + 7);
  else if (strncmp(word, "bind=", 5) == 0 && boot->bind_count < BINDS_MAX) boot->binds[boot->bind_count++] = word + 5;
  else if (strncmp(word, "address=", 8) == 0) boot->address = word + 8;
  else if (strncmp(word, "gateway=", 8) == 0) boot->gateway = word + 8;
  else if (strncmp(word, "resolver=", 9) == 0 && boot->resolver_count < RESOLVERS_MAX)
    boot->resolvers[boot->resolver_count++] = word + 9;
  else return false;
  return boot->layers >= 0 && boot->layers <= LAYERS_MAX;
}

static struct boot read_words(char **words) {
  struct boot boot = {.hostname = is_waiting ? "caisson" : NULL, .machine = "", .pids = "max", .memory = "max"};
  errno = EINVAL;
  for (; *words; words++)
    if (!read_word(&boot, *words)) give_up("option", *words);
  return boot;
}

/* From a kernel without disks to the root of this machine. */
static void settle(const struct boot *boot) {
  umask(0);
  mount_root(boot);
  mount_inside();
  mount_binds(boot);
  enter_root();
  set_limits(boot);
  if (boot->address && boot->gateway) {
    /* There is no IPv6 outside yet: a try has to fail at once. */
    write_text("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1", 0644);
    if (!network_address("eth0", boot->address, boot->gateway)) give_up("network", "eth0");
  }
  umask(022);
}

bool vm_is_machine(void) { return is_machine; }

bool vm_become(char **words) {
  if (!is_machine) return false;
  struct boot boot = read_words(words);
  if (is_waiting) settle(&boot);
  else write_names(&boot);
  is_waiting = false;
  return true;
}

int vm_boot(char **words) {
  umask(0);
  must_mount("proc", "/proc", "proc", 0, NULL);
  must_mount("sysfs", "/sys", "sysfs", 0, NULL);
  must_mount("devtmpfs", "/dev", "devtmpfs", 0, "mode=755");
  load_modules("/modules");
  find_disks();
  find_device("/sys/class/virtio-ports", "name", "agent.0", port_path, sizeof port_path);
  network_up("lo");
  is_machine = is_waiting = true;
  if (!words[0] || strcmp(words[0], "wait") != 0) vm_become(words);
  umask(022);
  return serve_port(port_path);
}

/* 0 when a sixty-fourth of the disk, or less, is free. */
int vm_full(void) {
  struct statfs disk;
  if (statfs("/", &disk) < 0) return 2;
  return disk.f_bavail <= disk.f_blocks / 64 || (disk.f_files > 0 && disk.f_ffree <= disk.f_files / 64) ? 0 : 1;
}

/* Whatever mounted the disks is gone when nobody holds the first one any more. */
static void await_unmounted(void) {
  for (int waited = 0; waited < DEVICE_WAIT_MS; waited += 2) {
    int fd = open(disks[0], O_RDWR | O_EXCL | O_CLOEXEC);
    if (fd >= 0) {
      close(fd);
      return;
    }
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
  }
  give_up("unmount", disks[0]);
}

/*
 * Does what settling does, with the disks that are there now and where nobody sees it, and undoes it: under emulation, what was done once
 * is quicker the next time. The disks can be others afterwards.
 */
int vm_rehearse(char **words) {
  is_waiting = true;
  struct boot boot = read_words(words);
  umask(0);
  find_disks();
  pid_t child = fork();
  if (child == 0) {
    if (unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) give_up("namespace", "/");
    mount_root(&boot);
    mount_inside();
    enter_root();
    set_limits(&boot);
    execl("/proc/1/exe", "caisson-agent", "sync", NULL);
    give_up("run", "/proc/1/exe");
  }
  int status = 1;
  if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0) return 1;
  await_unmounted();
  return 0;
}

int vm_sync(void) {
  sync();
  return 0;
}
