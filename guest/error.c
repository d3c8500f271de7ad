#include <errno.h>

#include "agent.h"

uint16_t error_code(int number) {
  switch (number) {
    case ENOENT:
    case ESRCH:
      return E_NOT_FOUND;
    case EEXIST:
      return E_ALREADY_EXISTS;
    case ENOTDIR:
      return E_NOT_A_DIRECTORY;
    case EACCES:
    case EPERM:
    case EROFS:
    case ETXTBSY:
      return E_PERMISSION_DENIED;
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENOTEMPTY:
    case ENOEXEC:
    case EXDEV:
      return E_INVALID_ARGUMENT;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
    case E2BIG:
    case EMLINK:
      return E_LIMIT_EXCEEDED;
    default:
      return E_IO_ERROR;
  }
}
