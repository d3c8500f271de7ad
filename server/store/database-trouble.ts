/** What the driver says by itself, without a code. */
const connectionLost =
  /^(?:Connection terminated|timeout exceeded when trying to connect|timeout expired|Client has encountered a connection error|Client was closed and is not queryable)/;
const noConnection = /^(?:ECONNREFUSED|ECONNRESET|ENOENT|EPIPE|57P0[123]|08\w{3})$/;
/** Out of disk, memory or connections. */
const noRoom = /^(?:53\w{3}|58030)$/;

/**
 * What keeps PostgreSQL from doing anything just now, for people: it does not answer, or has run out of something. Null for an error
 * that says something about the statement. Node's codes carry a system call, PostgreSQL's a severity.
 */
export function databaseTrouble(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  if (connectionLost.test(error.message)) return 'the database does not answer';
  const code = 'code' in error ? String(error.code) : '';
  const isFromSocket = 'syscall' in error && ['connect', 'read', 'write'].includes(String(error.syscall));
  const isFromServer = 'severity' in error;
  if (isFromServer && code === '53100') return 'the disk of the database is full';
  if (isFromServer && noRoom.test(code)) return 'the database has no room for more';
  return noConnection.test(code) && (isFromSocket || isFromServer) ? 'the database does not answer' : null;
}
