#include <errno.h>
#include <unistd.h>

#include "agent.h"

bool queue_push(struct queue *queue, const uint8_t *bytes, size_t length) {
  /* Bytes whose credit was not yet given back still count: the host may not know that they left. */
  if (length > INBOUND_BYTES - queue->length - queue->credit_due) return false;
  size_t tail = (queue->head + queue->length) % INBOUND_BYTES;
  size_t first = INBOUND_BYTES - tail < length ? INBOUND_BYTES - tail : length;
  memcpy(queue->bytes + tail, bytes, first);
  memcpy(queue->bytes, bytes + first, length - first);
  queue->length += length;
  return true;
}

static void queue_drop(struct queue *queue, size_t length) {
  queue->head = (queue->head + length) % INBOUND_BYTES;
  queue->length -= length;
  queue->credit_due += (uint32_t)length;
}

bool queue_drain(struct queue *queue, int fd) {
  while (queue->length > 0) {
    size_t run = INBOUND_BYTES - queue->head;
    if (run > queue->length) run = queue->length;
    ssize_t written = write(fd, queue->bytes + queue->head, run);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EAGAIN) return true;
    if (written <= 0) return false;
    queue_drop(queue, (size_t)written);
  }
  return true;
}

uint32_t queue_take_credit(struct queue *queue) {
  uint32_t due = queue->credit_due;
  if (due == 0 || (queue->length > 0 && due < INBOUND_BYTES / 4)) return 0;
  queue->credit_due = 0;
  return due;
}
