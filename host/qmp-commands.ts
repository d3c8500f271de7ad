import { isRecord } from './is-record.ts';
import { consoleBytes, consoleName } from './qemu-arguments.ts';
import type { QmpClient } from './qmp-client.ts';

/** QEMU's word for what a machine is doing: `prelaunch`, `running`, `paused`, `shutdown`, … */
export async function machineStatus(qmp: QmpClient): Promise<string> {
  const answer = await qmp.execute('query-status');
  return isRecord(answer) && typeof answer.status === 'string' ? answer.status : 'unknown';
}

/** Lets the guest's processors run. */
export async function continueMachine(qmp: QmpClient): Promise<void> {
  await qmp.execute('cont');
}

/** Stops the guest's processors; its clocks stand still. */
export async function stopMachine(qmp: QmpClient): Promise<void> {
  await qmp.execute('stop');
}

/** What a kernel or our init says when it cannot go on; a trace of registers that follows tells nobody anything. */
const tellingLine = /caisson: |Kernel panic|Out of memory|BUG: /;

/** The last telling lines of the guest's console, without control characters; empty when QEMU does not answer any more. */
export async function lastConsoleLines(qmp: QmpClient, count: number): Promise<string> {
  const parameters = { device: consoleName, size: consoleBytes, format: 'base64' };
  const answer = await qmp.execute('ringbuf-read', parameters, 1_000).catch(() => '');
  const text = Buffer.from(typeof answer === 'string' ? answer : '', 'base64').toString('latin1');
  const lines = text
    .split(/[\r\n]+/)
    .map((line) => line.replace(/[^\x20-\x7e]/g, '').slice(0, 200))
    .filter((line) => line !== '');
  const telling = lines.filter((line) => tellingLine.test(line));
  return (telling.length > 0 ? telling : lines).slice(-count).join('; ');
}
