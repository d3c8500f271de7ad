import { createExec, createExecConcurrent } from './create-exec.ts';
import { exec } from './exec.ts';
import { logLatency } from './log-latency.ts';
import { parentToChild } from './parent-to-child.ts';
import { plan } from './plan.ts';
import type { Row } from './row.ts';

/** Every row, in the order in which they run and are printed. */
export const rows: readonly Row[] = [createExec, createExecConcurrent, exec, parentToChild, logLatency, plan];
