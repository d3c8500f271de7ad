import { join } from 'node:path';
import {
  type CapsuleLayout,
  type VesselLayout as ContainerVesselLayout,
  type Installation,
  layoutOf,
  vesselLayoutOf,
} from './container-layout.ts';
import { qemuSockets } from './qemu-arguments.ts';

/** Where what lasts of one machine is. */
export interface MicrovmLayout extends Pick<CapsuleLayout, 'capsuleId' | 'stateDir' | 'stateFile'> {
  /** Holds the disk it writes to, and its memory while it is suspended: what is kept of a machine that was stopped. */
  readonly diskDir: string;
  /** The memory it began with, by another name for the same file; not there when it booted by itself. */
  readonly ramPath: string;
}

/** Where what runs is: a QEMU, started before it was known which machine it would be. */
export interface MicrovmVesselLayout extends Pick<ContainerVesselLayout, 'vesselId' | 'runDir' | 'cgroupPath'> {
  /** The host's end of the port the agent speaks over. */
  readonly agentSocketPath: string;
  /** A file of QEMU's, in which the state of its devices comes and goes; QEMU sees it below `/run`. */
  readonly devicesPath: string;
}

/** The name of the file of devices in QEMU's `/run`. */
export const devicesName = 'devices';

/** Throws `invalid_argument` as `layoutOf` does. */
export function microvmLayoutOf(installation: Installation, capsuleId: string): MicrovmLayout {
  const { stateDir, stateFile } = layoutOf(installation, capsuleId);
  return { capsuleId, stateDir, stateFile, diskDir: join(stateDir, 'disk'), ramPath: join(stateDir, 'ram') };
}

/** Throws `invalid_argument` as `vesselLayoutOf` does. */
export function microvmVesselLayoutOf(installation: Installation, id: string): MicrovmVesselLayout {
  const { vesselId, runDir, cgroupPath } = vesselLayoutOf(installation, id);
  const agentSocketPath = join(runDir, qemuSockets.agent);
  return { vesselId, runDir, cgroupPath, agentSocketPath, devicesPath: join(runDir, devicesName) };
}
