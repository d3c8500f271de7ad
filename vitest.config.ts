import { defineConfig } from 'vitest/config';
import TestOrder from './scripts/test-order.ts';

const short = [
  '{core,contracts,pipeline,host,server,cli,e2e,bench}/test/**/*.test.ts',
  'e2e/*.test.ts',
  'guest/test/*.test.ts',
];
/** What takes minutes and repeats at length what the others show in short: `npm run test:long`. */
const long = ['**/*.long.test.ts'];

export default defineConfig(({ mode }) => ({
  test: {
    include: mode === 'long' ? long : short,
    exclude: ['**/node_modules/**', ...(mode === 'long' ? [] : long)],
    reporters: ['default', './scripts/test-crashes.ts'],
    globalSetup: ['server/test/database-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    expect: { poll: { timeout: 20_000 } },
    // Many wait, for clocks and other processes.
    maxWorkers: 4,
    sequence: { sequencer: TestOrder },
  },
}));
