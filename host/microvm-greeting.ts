import { AppError } from '@caisson/contracts/app-error';
import { connectGuest } from './guest-channel.ts';
import type { GuestLink } from './guest-link.ts';
import type { MicrovmVessel } from './microvm-vessel.ts';
import { lastConsoleLines } from './qmp-commands.ts';

/**
 * Opens the port and waits for the agent's greeting. To be called before a clone reads its devices: then its guest finds its host on the
 * line as its template left it. Throws `provision_failed` with the guest's last words when none greets.
 */
export async function greet({ layout, qemu, ended }: MicrovmVessel, greetingTimeoutMs: number): Promise<GuestLink> {
  const connection = connectGuest(layout.agentSocketPath, { isPort: true, greetingTimeoutMs, signal: qemu.gone });
  return connection.catch(async (cause: unknown) => {
    const console = await lastConsoleLines(qemu.qmp, 3);
    const what = qemu.gone.aborted ? await ended : `no agent greeted within ${greetingTimeoutMs} ms`;
    const detail = console === '' ? what : `${what}; its console: ${console}`;
    throw new AppError('provision_failed', `the machine did not boot: ${detail}`, { cause });
  });
}

/** `greet`, of whose failure only whoever awaits it hears. */
export function greetLater(vessel: MicrovmVessel, timeoutMs: number): Promise<GuestLink> {
  const guest = greet(vessel, timeoutMs);
  guest.catch(() => {});
  return guest;
}
