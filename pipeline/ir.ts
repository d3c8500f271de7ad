import type { CachePolicy } from './cache-key.ts';

/** A rendered pipeline: the graph dialect of IR version 0, as it travels to the server. */
export interface PipelineIr {
  readonly version: '0';
  readonly default_image?: string;
  readonly timeout_seconds?: number;
  readonly graph: {
    readonly nodes: readonly IrNode[];
    readonly node_holes: readonly number[];
    readonly edge_property: 'directed';
    readonly edges: readonly IrEdge[];
  };
}

export interface IrNode {
  readonly step: IrStep;
  /** Base, pipeline and step env merged: what the command sees. */
  readonly env: Readonly<Record<string, string>>;
}

export interface IrStep {
  readonly key: string;
  readonly cmd: string;
  readonly label?: string;
  readonly image?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly timeout_seconds?: number;
  /** `key` is added when the pipeline is rendered. */
  readonly cache?: CachePolicy & { readonly key?: string };
  /**
   * Steps that build in this one start from its memory as well: what it left running runs in each of them. An addition of ours; a
   * server that does not know it keeps the disk alone.
   */
  readonly snapshot?: 'memory';
  readonly runner?: string;
  readonly runner_args?: unknown;
  /**
   * Keys of `depends_on` prerequisites behind `wait({ continueOnFailure: true })`: the step waits for them to end, and starts
   * whether they passed or not. An addition of ours; a server that does not know it treats the edges as ordinary ones.
   */
  readonly continue_on_failure?: readonly string[];
}

/** `[prerequisite, dependent, kind]`, both as indexes into `nodes`. */
export type IrEdge = readonly [number, number, 'builds_in' | 'depends_on'];
