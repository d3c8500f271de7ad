import { destination, type Logger, pino, stdSerializers } from 'pino';

/** A JSON logger that appends to a file; errors carry their cause. */
export async function openLog(path: string): Promise<Logger> {
  const file = destination({ dest: path, sync: false, append: true, mkdir: true, mode: 0o600 });
  await new Promise<void>((resolve, reject) => file.once('ready', resolve).once('error', reject));
  return pino({ base: null, serializers: { error: stdSerializers.errWithCause } }, file);
}
