import { defineConfig } from 'vitest/config';
import TestOrder from './scripts/test-order.ts';

export default defineConfig({
  test: {
    include: [
      '{core,contracts,pipeline,host,server,cli,e2e,bench}/test/**/*.test.ts',
      'e2e/*.test.ts',
      'guest/test/*.test.ts',
    ],
    reporters: ['default', './scripts/test-crashes.ts'],
    globalSetup: ['server/test/database-setup.ts'],
    testTimeout: 60_000,
    hookTimeout: 120_000,
    maxWorkers: 2,
    sequence: { sequencer: TestOrder },
  },
});
