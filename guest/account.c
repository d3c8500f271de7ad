/* Users and groups from the image's own files: libc's lookups would load plugins that the image may not have. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

struct lines {
  int fd;
  size_t start, end;
  char bytes[8192];
};

static bool lines_open(struct lines *lines, const char *path) {
  struct stat info;
  lines->start = lines->end = 0;
  lines->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (lines->fd >= 0 && fstat(lines->fd, &info) == 0 && S_ISREG(info.st_mode)) return true;
  if (lines->fd >= 0) close(lines->fd);
  return false;
}

/* The next line without its end, or NULL. What does not fit the buffer comes in pieces that no lookup can match by mistake. */
static char *lines_next(struct lines *lines) {
  for (;;) {
    char *begin = lines->bytes + lines->start;
    char *stop = memchr(begin, '\n', lines->end - lines->start);
    if (stop) {
      *stop = 0;
      lines->start = (size_t)(stop - lines->bytes) + 1;
      return begin;
    }
    memmove(lines->bytes, begin, lines->end - lines->start);
    lines->end -= lines->start;
    lines->start = 0;
    if (lines->end == sizeof lines->bytes - 1) lines->end = 0;
    ssize_t got = read(lines->fd, lines->bytes + lines->end, sizeof lines->bytes - 1 - lines->end);
    if (got <= 0) {
      if (lines->end == 0) return NULL;
      lines->bytes[lines->end] = 0;
      lines->start = lines->end = 0;
      return lines->bytes;
    }
    lines->end += (size_t)got;
  }
}

/* Splits at ':' in place; returns how many fields there are, at most `most`. */
static int split(char *line, char **fields, int most) {
  int count = 0;
  while (line && count < most) {
    fields[count++] = line;
    line = strchr(line, ':');
    if (line) *line++ = 0;
  }
  return count;
}

static bool parse_id(const char *text, size_t length, uint32_t *id) {
  uint64_t value = 0;
  if (length == 0 || length > 10) return false;
  for (size_t i = 0; i < length; i++) {
    if (text[i] < '0' || text[i] > '9') return false;
    value = value * 10 + (uint64_t)(text[i] - '0');
  }
  *id = (uint32_t)value;
  return value < UINT32_MAX; /* the highest id means "leave as it is" to the kernel */
}

/* Looks a user up by name, or by number when name is NULL; fills uid, gid and the name's copy. */
static bool find_user(const char *name, struct account *account, char *found_name, size_t size) {
  static struct lines lines;
  bool found = false;
  if (!lines_open(&lines, "/etc/passwd")) return false;
  for (char *line; !found && (line = lines_next(&lines));) {
    char *fields[4];
    uint32_t uid, gid;
    if (split(line, fields, 4) < 4 || strlen(fields[0]) >= size) continue;
    char *gid_end = strchr(fields[3], ':');
    size_t gid_length = gid_end ? (size_t)(gid_end - fields[3]) : strlen(fields[3]);
    if (!parse_id(fields[2], strlen(fields[2]), &uid) || !parse_id(fields[3], gid_length, &gid)) continue;
    if (name ? strcmp(fields[0], name) != 0 : uid != account->uid) continue;
    account->uid = uid;
    account->gid = gid;
    strcpy(found_name, fields[0]);
    found = true;
  }
  close(lines.fd);
  return found;
}

static bool lists_member(char *members, const char *name) {
  size_t length = strlen(name);
  for (char *at = members; at; at = strchr(at, ',')) {
    if (*at == ',') at++;
    if (strncmp(at, name, length) == 0 && (at[length] == 0 || at[length] == ',')) return true;
  }
  return false;
}

static void find_groups(const char *name, struct account *account) {
  static struct lines lines;
  const int most = (int)(sizeof account->groups / sizeof account->groups[0]);
  account->groups[account->group_count++] = account->gid;
  if (!lines_open(&lines, "/etc/group")) return;
  for (char *line; account->group_count < most && (line = lines_next(&lines));) {
    char *fields[4];
    uint32_t gid;
    if (split(line, fields, 4) < 4 || !parse_id(fields[2], strlen(fields[2]), &gid)) continue;
    if (gid != account->gid && lists_member(fields[3], name)) account->groups[account->group_count++] = gid;
  }
  close(lines.fd);
}

uint16_t account_find(const char *spec, struct account *account, const char **why) {
  static char name[256];
  const char *colon = strchr(spec, ':');
  size_t length = colon ? (size_t)(colon - spec) : strlen(spec);
  uint32_t uid, gid;
  memset(account, 0, sizeof *account);
  if (parse_id(spec, length, &uid)) {
    account->uid = uid;
    if (colon) {
      *why = "the group is not a number";
      if (!parse_id(colon + 1, strlen(colon + 1), &gid)) return E_INVALID_ARGUMENT;
      account->gid = gid;
      return 0;
    }
    if (find_user(NULL, account, name, sizeof name)) find_groups(name, account);
    return 0;
  }
  *why = "a user is a name, a number, or number:number";
  if (colon || length == 0 || length >= sizeof name) return E_INVALID_ARGUMENT;
  *why = "no such user in /etc/passwd";
  if (!find_user(spec, account, name, sizeof name)) {
    /* An image without accounts still has root. */
    return strcmp(spec, "root") == 0 ? 0 : E_NOT_FOUND;
  }
  find_groups(name, account);
  return 0;
}
