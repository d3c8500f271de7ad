#include "reverse.h"

#include <stdio.h>
#include <string.h>

static int check(const char *text, const char *expected) {
  char copy[32];
  snprintf(copy, sizeof copy, "%s", text);
  reverse(copy);
  printf("%s: \"%s\" -> \"%s\"\n", strcmp(copy, expected) == 0 ? "ok" : "WRONG", text, copy);
  return strcmp(copy, expected) != 0;
}

int main(void) { return check("", "") + check("a", "a") + check("dam", "mad") + check("caisson", "nossiac"); }
