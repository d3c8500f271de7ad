/* Reverses `text` in place. */
void reverse(char *text);
