import { serveHostApi } from '../contracts/host-server.ts';
import { scriptedHost } from '../server/test/scripted-host.ts';

// A host in a process of its own that holds every job until it is told to end it.
const [hostId = '', socketPath = ''] = process.argv.slice(2);
const host = scriptedHost(async ({ canceled }) => {
  await canceled;
  return { outcome: 'canceled' };
}, hostId);
host.description = { ...host.description, capacity: { cpus: 64, memoryBytes: 2 ** 40, diskBytes: 2 ** 50 } };
await serveHostApi(host, { kind: 'socket', path: socketPath });
process.once('disconnect', () => process.exit());
process.send?.('ready');
