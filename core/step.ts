/** The answer of every state machine: the next state with what it owes the outside, or a refusal that changes nothing. */
export type Step<State, Effect> =
  | { readonly ok: true; readonly state: State; readonly effects: readonly Effect[] }
  | { readonly ok: false; readonly code: StepRefusalCode };

/** `stale_lease`: the message comes from a holder that was replaced. */
export type StepRefusalCode = 'illegal_transition' | 'stale_lease';
