import { setTimeout as delay } from 'node:timers/promises';
import { AppError } from '@caisson/contracts/app-error';
import { isRecord } from './is-record.ts';
import { devicesName } from './microvm-layout.ts';
import type { QmpClient } from './qmp-client.ts';
import { machineStatus } from './qmp-commands.ts';

const devicesFile = `/run/${devicesName}`;
const saveTimeoutMs = 30_000;
const loadTimeoutMs = 30_000;

/** Memory that lies in a file is not written a second time. */
async function leaveMemoryOut(qmp: QmpClient): Promise<void> {
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  await qmp.execute('migrate-set-capabilities', { capabilities });
}

/** Writes the devices of a stopped machine whose memory is a shared file, for any number of clones. Throws `io_error`. */
export async function saveTemplateDevices(qmp: QmpClient): Promise<void> {
  await leaveMemoryOut(qmp);
  await qmp.execute('migrate', { uri: `file:${devicesFile}` });
  for (const endsAtMs = performance.now() + saveTimeoutMs; performance.now() < endsAtMs; await delay(2)) {
    const answer = await qmp.execute('query-migrate');
    const status = isRecord(answer) ? answer.status : undefined;
    if (status === 'completed') return;
    if (status === 'failed')
      throw new AppError('io_error', `QEMU could not write its devices: ${JSON.stringify(answer)}`);
  }
  throw new AppError('io_error', 'QEMU did not finish writing its devices');
}

/** Writes the devices of a stopped machine, for a QEMU that begins as a clone of `one`. Throws `io_error`. */
export async function saveDevices(qmp: QmpClient): Promise<void> {
  await qmp.execute('xen-save-devices-state', { filename: devicesFile }, saveTimeoutMs);
}

/** Reads the devices into a QEMU that waits for them. Throws `io_error` or, when QEMU ends over it, `guest_lost`. */
export async function loadDevices(qmp: QmpClient): Promise<void> {
  await leaveMemoryOut(qmp);
  await qmp.execute('migrate-incoming', { uri: `file:${devicesFile}` });
  for (const endsAtMs = performance.now() + loadTimeoutMs; performance.now() < endsAtMs; await delay(1))
    if ((await machineStatus(qmp)) !== 'inmigrate') return;
  throw new AppError('io_error', 'QEMU did not finish reading its devices');
}
