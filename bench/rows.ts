import { advanceLarge } from './advance.ts';
import { hello, startUp } from './command-line.ts';
import { createExec, createExecConcurrent } from './create-exec.ts';
import { exec } from './exec.ts';
import { forkMany } from './fork-100.ts';
import { gvisorMemory } from './gvisor.ts';
import { largeBuild, largeBuildReal } from './large-build.ts';
import { logLatency } from './log-latency.ts';
import { logVolume } from './log-volume.ts';
import { lostHost } from './lost-host.ts';
import { memory } from './memory.ts';
import { microvmCreate, microvmMemory } from './microvm.ts';
import { parentToChild } from './parent-to-child.ts';
import { plan } from './plan.ts';
import type { Row } from './row.ts';
import { transitions } from './transitions.ts';

/** Every row, in the order in which they run and are printed. */
export const rows: readonly Row[] = [
  createExec,
  createExecConcurrent,
  exec,
  parentToChild,
  logLatency,
  logVolume,
  transitions,
  lostHost,
  largeBuild,
  largeBuildReal,
  plan,
  advanceLarge,
  forkMany,
  memory,
  microvmCreate,
  microvmMemory,
  gvisorMemory,
  hello,
  startUp,
];
