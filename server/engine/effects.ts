import { crashPoint } from '@caisson/contracts/crash-point';
import { fromKysely, type JobResult, PgBoss } from 'pg-boss';
import type { Logger } from 'pino';
import type { Tx } from '../store/database.ts';

/**
 * What a committed change owes the outside. Enqueued in the transaction of the change, performed at least once by any control
 * plane, so every performer is idempotent.
 */
export type Effect =
  /** The rendering of this build is over: make its jobs, or refuse it. */
  { readonly kind: 'plan_rendered_build'; readonly buildId: string };

export interface Effects {
  /** Records an effect in the caller's transaction. */
  enqueue(tx: Tx, effect: Effect): Promise<void>;
  /** Starts performing; failures are retried with back-off and end in the dead-letter queue. */
  perform(performer: (effect: Effect) => Promise<void>): Promise<void>;
  stop(): Promise<void>;
}

const stopMs = 3_000;
const queue = 'effects';
const deadLetterQueue = 'effects_dead';

/** Opens the queue in the database's `pgboss` schema, making it at first use. */
export async function openEffects(connectionString: string, logger: Logger): Promise<Effects> {
  const boss = new PgBoss({ connectionString, max: 3, useListenNotify: true, application_name: 'caisson-effects' });
  boss.on('error', (error) => logger.error({ err: error }, 'the effect queue has a problem'));
  await boss.start();
  await boss.createQueue(deadLetterQueue, { notify: false });
  await boss.createQueue(queue, {
    notify: true,
    deadLetter: deadLetterQueue,
    retryLimit: 20,
    retryDelay: 1,
    retryBackoff: true,
    retryDelayMax: 60,
    expireInSeconds: 120,
  });
  return {
    async enqueue(tx, effect) {
      await boss.send(queue, effect, { db: fromKysely(tx) });
    },
    async perform(performer) {
      const polling = {
        batchSize: 10,
        burstWhenBatchFull: true,
        pollingIntervalSeconds: 1,
        notifyPollingIntervalSeconds: 1,
        perJobResults: true,
      } as const;
      await boss.work<Effect>(queue, polling, (jobs) => Promise.all(jobs.map((job) => settle(job, performer, logger))));
    },
    // What is cut off is performed again by whoever comes next.
    stop: () => boss.stop({ graceful: true, timeout: stopMs }),
  };
}

/** One effect's failure is its own: the others of the batch are done. */
async function settle(
  job: { id: string; data: Effect },
  performer: (effect: Effect) => Promise<void>,
  logger: Logger,
): Promise<JobResult> {
  try {
    await performer(job.data);
    crashPoint('effect.performed');
    return { id: job.id, status: 'completed' };
  } catch (error) {
    logger.error({ err: error, effect: job.data }, 'an effect failed and will be tried again');
    return { id: job.id, status: 'failed', output: { message: String(error) } };
  }
}
