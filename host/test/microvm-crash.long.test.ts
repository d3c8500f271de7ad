import { vi } from 'vitest';
import { describeCrashes } from './microvm-crashes.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 300_000 });

await describeCrashes();
