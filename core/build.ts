export const buildStates = ['scheduled', 'running', 'failing', 'passed', 'failed', 'canceling', 'canceled'] as const;
export type BuildState = (typeof buildStates)[number];
