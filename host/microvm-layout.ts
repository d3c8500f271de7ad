import { join } from 'node:path';
import {
  type CapsuleLayout,
  type Installation,
  layoutOf,
  type VesselLayout,
  vesselLayoutOf,
} from './container-layout.ts';
import { qemuSockets } from './qemu-arguments.ts';

/** Where everything of one machine is. */
export interface MicrovmLayout
  extends Pick<CapsuleLayout, 'capsuleId' | 'stateDir' | 'stateFile'>,
    Pick<VesselLayout, 'runDir' | 'cgroupPath'> {
  /** Holds the disk it writes to and nothing else: what is kept of a machine that was stopped. */
  readonly diskDir: string;
  /** The host's end of the port the agent speaks over. */
  readonly agentSocketPath: string;
}

/** Throws `invalid_argument` as `vesselLayoutOf` does. */
export function microvmLayoutOf(installation: Installation, capsuleId: string): MicrovmLayout {
  const { stateDir, stateFile } = layoutOf(installation, capsuleId);
  const { runDir, cgroupPath } = vesselLayoutOf(installation, capsuleId);
  return {
    capsuleId,
    stateDir,
    stateFile,
    runDir,
    cgroupPath,
    diskDir: join(stateDir, 'disk'),
    agentSocketPath: join(runDir, qemuSockets.agent),
  };
}
