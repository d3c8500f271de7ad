import type { CompiledQuery } from 'kysely';
import type { Database } from '../store/database.ts';
import { notifyOthers, owe } from './life-ports.ts';
import { databaseBehind, type GatedTransaction } from './simulated-database.ts';
import type { Answer } from './sql-session.ts';
import { type Doom, type Life, SimulatedFault, type World } from './world.ts';

const fastestMs = 0.05;
const spreadMs = 1;
const slowReplyMs = 30;

/**
 * The database as one process reaches it. Statements and transactions wait for their turn; between any two of them the process may end,
 * or lose its connection with the statement done or not done.
 */
export function databaseOf(world: World, life: Life): Database {
  return databaseBehind({
    statement: (query) => single(world, life, query),
    begin: () => begin(world, life),
  });
}

/** Has `work` happen when it is this statement's turn. */
function turn<T>({ draws }: World, life: Life, work: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    life.after(fastestMs + draws.unit(`${life.name} statement`) * spreadMs, async () => {
      await work().then(resolve, (error: unknown) => {
        if (error !== gone) reject(error);
      });
    });
  });
}

/** Thrown where the process ends; whoever awaits the statement hears nothing any more. */
const gone = Symbol('the process is gone');
const never: Promise<never> = new Promise(() => {});

/** Now and then an answer is under way for a while, and what it says is not true any more when it comes. */
function slowReply({ draws }: World, life: Life): Promise<void> | undefined {
  if (!draws.chance(0.05, `${life.name} slow reply`)) return undefined;
  return new Promise((resolve) => life.after(draws.unit(`${life.name} reply`) * slowReplyMs, resolve));
}

async function single(world: World, life: Life, query: CompiledQuery): Promise<Answer> {
  const answer = await turn(world, life, async () => {
    const kind = await doomOf(life, async () => {});
    const result = await run(world, life, query);
    if (isChange(query, result)) await world.observe(life.name);
    if (kind === 'cut_behind') throw new SimulatedFault('the connection to the database broke behind a statement');
    return result;
  });
  await slowReply(world, life);
  return answer;
}

/** From its begin to its end a transaction is alone. */
function begin(world: World, life: Life): Promise<GatedTransaction> {
  const { session } = world;
  const over = Promise.withResolvers<void>();
  let isOpen = true;
  let hasChanged = false;
  const close = async (how: 'commit' | 'rollback') => {
    if (!isOpen) return;
    isOpen = false;
    await session[how]();
  };
  const abandon = async () => {
    await close('rollback');
    forgetUnsent(life);
    over.resolve();
  };
  const transaction: GatedTransaction = {
    async statement(query) {
      if (!isOpen) throw new SimulatedFault('the transaction is over');
      const kind = await doomOf(life, abandon).catch(unlessGone);
      const result = await run(world, life, query);
      if (kind === 'cut_behind') await abandon();
      if (kind === 'cut_behind') throw new SimulatedFault('the connection to the database broke behind a statement');
      hasChanged ||= isChange(query, result);
      return result;
    },
    async commit() {
      const kind = await doomOf(life, abandon).catch(unlessGone);
      const committed = close('commit');
      world.stats.commits += 1;
      await Promise.all([committed, hasChanged ? world.observe(life.name) : null]);
      sendUnsent(world, life);
      over.resolve();
      if (kind === 'cut_behind') throw new SimulatedFault('the connection to the database broke behind the commit');
      await slowReply(world, life);
    },
    rollback: abandon,
  };
  return new Promise((resolve, reject) => {
    life.after(fastestMs + world.draws.unit(`${life.name} statement`) * spreadMs, async () => {
      try {
        await doomOf(life, async () => {});
        session.begin();
      } catch (error) {
        return error === gone ? undefined : reject(error);
      }
      resolve(transaction);
      await over.promise;
    });
  });
}

async function run({ history, session, stats }: World, life: Life, query: CompiledQuery): Promise<Answer> {
  stats.statements += 1;
  const answer = await session.query(query.sql, query.parameters);
  history.mark(`${life.name} ${query.sql.length} ${answer.command} ${answer.rowCount}`);
  return answer;
}

/** That somebody looked at the leases changes nothing that is checked. */
function isChange({ sql }: CompiledQuery, { command, rowCount }: Answer): boolean {
  if (rowCount === 0 || command === 'SELECT') return /^\s*with/.test(sql) && rowCount > 0;
  return !sql.startsWith('update "watch"');
}

/** What befalls the process at this statement; `undo` is called when the statement is not to be. */
async function doomOf(life: Life, undo: () => Promise<void>): Promise<Doom['kind'] | null> {
  const due = life.doom.find((doom) => doom.statementsLeft <= 0);
  for (const doom of life.doom) doom.statementsLeft -= 1;
  if (due === undefined) return null;
  life.doom.splice(life.doom.indexOf(due), 1);
  due.happen();
  if (due.kind === 'cut_behind') return due.kind;
  await undo();
  if (due.kind === 'cut') throw new SimulatedFault('the connection to the database broke');
  throw gone;
}

function unlessGone(error: unknown): Promise<never> {
  return error === gone ? never : Promise.reject(error);
}

function forgetUnsent(life: Life): void {
  life.unsent.notices = [];
  life.unsent.effects = [];
}

function sendUnsent(world: World, life: Life): void {
  const { notices, effects } = life.unsent;
  forgetUnsent(life);
  notifyOthers(world, life, notices);
  for (const effect of effects) owe(world, effect);
}
