/* The agent for the fuzz test: whatever a mutated request asks for happens to an empty directory, as a user without rights.
 * Exit 77 when this machine does not allow that. */
#include <grp.h>
#include <sched.h>
#include <unistd.h>

#include "../agent.h"

int main(int count, char **arguments) {
  if (count != 2) return 2;
  if (geteuid() != 0 && unshare(CLONE_NEWUSER) < 0) return 77;
  if (chdir(arguments[1]) < 0 || chroot(".") < 0) return 77;
  if (setgroups(0, NULL) == 0 && setgid(65534) == 0 && setuid(65534) < 0) return 77;
  if (geteuid() == 0) return 77;
  return serve_listener(3);
}
