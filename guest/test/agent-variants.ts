import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type AgentVariant, buildAgent } from '../../host/guest-binary.ts';
import { type RunningAgent, startAgent } from './agent-fixture.ts';

const refusal = await buildAgent({ variant: 'sanitized' }).then(
  () => null,
  (error: Error) => error,
);
const variants: readonly AgentVariant[] = refusal === null ? ['release', 'sanitized'] : ['release'];

/** Declares the same tests for the agent as it ships and for the one watched by sanitizers, each over one running agent. */
export function describeAgents(
  title: string,
  declare: (agent: () => RunningAgent, variant: AgentVariant) => void,
): void {
  if (refusal !== null) {
    test.skip(`${title}: the sanitized build was skipped, since the compiler cannot make it (${refusal.message})`, () => {});
  }
  describe.each(variants)(`${title} (%s build)`, (variant) => {
    let agent: RunningAgent;
    beforeAll(async () => {
      agent = await startAgent({ variant });
    });
    afterAll(async () => {
      const wasAlive = agent.isAlive();
      await agent.stop();
      expect(agent.complaints()).toBe('');
      expect(wasAlive).toBe(true);
    });
    declare(() => agent, variant);
  });
}

/** The sanitized build, or null where the compiler has none. */
export const sanitizedVariant: AgentVariant | null = refusal === null ? 'sanitized' : null;
