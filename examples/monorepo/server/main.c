#include "messages.h"
#include "reverse.h"

#include <stdio.h>

/* Prints its argument backwards. */
int main(int count, char **words) {
  char text[64];
  snprintf(text, sizeof text, "%s", count > 1 ? words[1] : WORD);
  reverse(text);
  printf("%s\n", text);
  return 0;
}
