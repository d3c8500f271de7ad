/** The host's side of the channel to the agent inside one capsule. Every byte from the agent is treated as hostile. */
export interface GuestLink {
  /** Resolves with the reason when the channel ends, for whatever cause; pending calls then reject with `guest_lost`. */
  readonly closed: Promise<string>;
  /** Starts a process in its own process group; the agent keeps its output until it is read. */
  exec(spec: ExecSpec): Promise<GuestProcess>;
  /** Takes up a process started over an earlier connection; null when the agent does not know it. */
  attach(processId: number, fromOffset: number): Promise<GuestProcess | null>;
  /** Streams a file into the capsule, creating or replacing it. Parents must exist. */
  writeFile(path: string, bytes: AsyncIterable<Uint8Array>, options?: { mode?: number }): Promise<void>;
  /** Streams a file out of the capsule. */
  readFile(path: string): AsyncIterable<Uint8Array>;
  stat(path: string): Promise<GuestFileStat>;
  list(path: string): Promise<readonly GuestFileStat[]>;
  mkdir(path: string, options?: { parents?: boolean; mode?: number }): Promise<void>;
  remove(path: string, options?: { recursive?: boolean }): Promise<void>;
  /**
   * Tells a clone who it is, before anything runs in it: sets its clock, reseeds its random numbers, gives it the names in `words`, and
   * the disks as well if it waits for them. Refused with `invalid_argument` by what is no machine of its own.
   */
  identify(words: readonly string[]): Promise<void>;
  /** Round trip to the agent, in milliseconds. */
  ping(): Promise<number>;
  /** Ends the connection, not the capsule. */
  close(): void;
}

export interface ExecSpec {
  /** Program and arguments; the program is looked up on the PATH of `env`. */
  readonly argv: readonly [string, ...string[]];
  /** The whole environment; nothing is inherited. */
  readonly env: Readonly<Record<string, string>>;
  /** Created when missing is not done here: an absent directory is refused with `not_found`. */
  readonly cwd: string;
  /** `name`, `uid` or `uid:gid` inside the capsule; default root. */
  readonly user?: string;
  /** Present: the process gets a pseudo-terminal of this size, and all output is `stdout`. */
  readonly pty?: { readonly rows: number; readonly cols: number };
  /** Whether the process reads from `write`; otherwise its stdin is /dev/null. */
  readonly stdin?: boolean;
  /** Wall clock in the capsule after which the whole process group is killed; the exit then says `timedOut`. */
  readonly timeoutMs?: number;
  /**
   * Chosen by a caller who writes it down before the start, so that after a crash `attach` tells whether the process was started.
   * One that is taken is refused with `already_exists`. Default: the lowest number that is free, counted from 1.
   */
  readonly processId?: number;
}

export interface GuestProcess {
  readonly processId: number;
  /**
   * Output of both streams in one order, from the offset asked for. Bytes stay in the agent until `acknowledge`; the agent
   * stops reading from the process when its bounded buffer is full (back-pressure, never loss). Ends at the exit.
   */
  output(): AsyncIterable<GuestOutput>;
  /** Everything below this offset is stored by the host; the agent may forget it. */
  acknowledge(offset: number): void;
  readonly exit: Promise<GuestExit>;
  write(bytes: Uint8Array): Promise<void>;
  closeStdin(): void;
  resize(rows: number, cols: number): void;
  /** Signals the whole process group. */
  kill(signal: number): void;
  /**
   * The exit is stored by the host: the agent may drop all it knows of the process. One that still runs goes on without its
   * output being kept. Never required: the agent drops the oldest finished and fully acknowledged process when it needs room.
   */
  forget(): void;
}

export interface GuestOutput {
  readonly stream: 'stdout' | 'stderr';
  readonly bytes: Uint8Array;
  /** Offset just behind these bytes, counted over both streams. */
  readonly endOffset: number;
}

export interface GuestExit {
  readonly exitCode: number;
  /** Number of the signal that ended it, else null. */
  readonly signal: number | null;
  readonly timedOut: boolean;
}

export interface GuestFileStat {
  readonly name: string;
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  readonly sizeBytes: number;
  readonly mode: number;
  readonly modifiedAtMs: number;
  readonly uid: number;
  readonly gid: number;
}
