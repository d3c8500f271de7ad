import type { CapsuleShape } from '@caisson/contracts/host-api';
import type { BuildRow } from '../store/build-row.ts';
import type { Database, Tx } from '../store/database.ts';
import { type JobStateRow, jobStateColumns } from '../store/job-row.ts';
import {
  insertEvents,
  insertLayers,
  insertLeases,
  type NewEvent,
  type NewLayer,
  releaseLayers,
  writeBuilds,
  writeJobs,
  writeLeases,
} from './change-rows.ts';
import type { Effect, Effects } from './effects.ts';
import { appendChunks, markAttempt, type OutputChunk } from './job-log.ts';
import { type HeldLease, lockLeases, newLease } from './lease.ts';
import type { Notice, Notifications } from './notifications.ts';
import type { Surroundings } from './surroundings.ts';

export interface TransitionDeps extends ChangeSetDeps {
  readonly db: Database;
}

export interface ChangeSetDeps extends Pick<Surroundings, 'newId'> {
  readonly effects: Pick<Effects, 'enqueue'>;
  readonly notifications: Pick<Notifications, 'tell' | 'wake'>;
}

/**
 * What one transaction is going to write, collected row by row and written set by set: a thousand jobs that change together cost
 * as many statements as one. Reads give the rows as they will be. Locks are taken in one order: builds, leases, logs.
 */
export class ChangeSet {
  readonly tx: Tx;
  /** By the database's clock. */
  readonly nowMs: number;
  readonly notices = new Set<Notice>();
  readonly #deps: ChangeSetDeps;
  readonly #jobs = new Map<string, JobStateRow>();
  readonly #leases = new Map<string, HeldLease>();
  readonly #changedJobs = new Set<string>();
  readonly #changedBuilds = new Map<string, BuildRow>();
  readonly #newLeases = new Set<string>();
  readonly #changedLeases = new Set<string>();
  readonly #output = new Map<string, OutputChunk[]>();
  readonly #newAttempts = new Set<string>();
  readonly #endedBuilds = new Set<string>();
  readonly #events: NewEvent[] = [];
  readonly #layers: NewLayer[] = [];
  readonly #owed: Effect[] = [];

  constructor(deps: ChangeSetDeps, tx: Tx, nowMs: number) {
    this.#deps = deps;
    this.tx = tx;
    this.nowMs = nowMs;
  }

  newId(): string {
    return this.#deps.newId();
  }

  /** Reads jobs of locked builds, so that `job` knows them. */
  async readJobs(ids: readonly string[]): Promise<void> {
    const unknown = ids.filter((id) => !this.#jobs.has(id));
    if (unknown.length === 0) return;
    const rows = await this.tx
      .selectFrom('jobs')
      .select(jobStateColumns)
      .where(({ eb, val }) => eb('id', '=', eb.fn.any(val(unknown))))
      .execute();
    for (const row of rows) this.#jobs.set(row.id, row);
  }

  /** Takes over rows read elsewhere in this transaction. */
  knowJobs(rows: readonly JobStateRow[]): void {
    for (const row of rows) if (!this.#jobs.has(row.id)) this.#jobs.set(row.id, row);
  }

  job(id: string): JobStateRow | undefined {
    return this.#jobs.get(id);
  }

  putJob(row: JobStateRow): void {
    this.#jobs.set(row.id, row);
    this.#changedJobs.add(row.id);
  }

  putBuild(row: BuildRow): void {
    this.#changedBuilds.set(row.id, row);
  }

  /** Locks and reads leases, so that `lease` knows them. */
  async readLeases(ids: readonly string[]): Promise<void> {
    const unknown = ids.filter((id) => !this.#leases.has(id));
    if (unknown.length === 0) return;
    for (const lease of await lockLeases(this.tx, unknown)) this.#leases.set(lease.id, lease);
  }

  lease(id: string): HeldLease | undefined {
    return this.#leases.get(id);
  }

  putLease(lease: HeldLease): void {
    this.#leases.set(lease.id, lease);
    this.#changedLeases.add(lease.id);
  }

  takeLease(job: JobStateRow, target: { hostId: string; shape: CapsuleShape }): HeldLease {
    const lease = newLease(job, { ...target, newId: this.#deps.newId, nowMs: this.nowMs });
    this.#leases.set(lease.id, lease);
    this.#newLeases.add(lease.id);
    return lease;
  }

  addEvent(event: NewEvent): void {
    this.#events.push(event);
  }

  addLayer(layer: NewLayer): void {
    this.#layers.push(layer);
    if (layer.isReleased) this.notices.add(`host:${layer.host_id}`);
  }

  addOutput(jobId: string, chunk: OutputChunk): void {
    const chunks = this.#output.get(jobId);
    if (chunks === undefined) this.#output.set(jobId, [chunk]);
    else chunks.push(chunk);
    this.notices.add(`job:${jobId}`);
  }

  /** What the job prints from here on belongs to another attempt. */
  beginAttempt(jobId: string, line: string): void {
    this.addOutput(jobId, { stream: 'meta', bytes: Buffer.from(`[caisson] ${line}\n`), atMs: this.nowMs });
    this.#newAttempts.add(jobId);
  }

  /** The build is over: its sealed disks may go. */
  endBuild(buildId: string): void {
    this.#endedBuilds.add(buildId);
  }

  owe(effect: Effect): void {
    this.#owed.push(effect);
  }

  /** Writes jobs and leases, so that queries see them as they are. */
  async writeStates(): Promise<void> {
    const { tx } = this;
    const leases = (ids: Set<string>) => [...ids].flatMap((id) => this.#leases.get(id) ?? []);
    await insertLeases(tx, leases(this.#newLeases));
    await writeLeases(tx, leases(this.#changedLeases));
    await writeJobs(
      tx,
      [...this.#changedJobs].flatMap((id) => this.#jobs.get(id) ?? []),
    );
    for (const ids of [this.#newLeases, this.#changedLeases, this.#changedJobs]) ids.clear();
  }

  /** Writes all that is left. */
  async write(): Promise<void> {
    const { tx } = this;
    await this.writeStates();
    await writeBuilds(tx, [...this.#changedBuilds.values()]);
    await insertLayers(tx, this.#layers);
    for (const hostId of await releaseLayers(tx, [...this.#endedBuilds])) this.notices.add(`host:${hostId}`);
    await insertEvents(tx, this.#events);
    await appendChunks(tx, this.#output);
    await markAttempt(tx, [...this.#newAttempts]);
    for (const effect of this.#owed) await this.#deps.effects.enqueue(tx, effect);
    await this.#deps.notifications.tell(tx, this.notices);
  }
}
