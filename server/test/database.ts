import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import pg from 'pg';
import { inject } from 'vitest';
import { templateName, withDatabase } from './database-setup.ts';

/** A database of a test's own. */
export interface TestDatabase {
  readonly connectionString: string;
  /** Removes it, ending what is still connected. */
  drop(): Promise<void>;
}

/** A fresh, migrated, empty database on the PostgreSQL of this test run: a copy of a template, so it takes a fraction of a second. */
export function freshDatabase(): Promise<TestDatabase> {
  return create(`template ${templateName}`);
}

/** A database without any table. */
export function emptyDatabase(): Promise<TestDatabase> {
  return create('');
}

async function create(how: string): Promise<TestDatabase> {
  const server = await askServer();
  const name = `test_${randomBytes(8).toString('hex')}`;
  await administer(server, `create database ${name} ${how}`);
  return {
    connectionString: withDatabase(server, name),
    drop: () => administer(server, `drop database if exists ${name} with (force)`),
  };
}

async function askServer(): Promise<string> {
  const answer = await text(connect(inject('databaseSocket')));
  if (answer.startsWith('error: ')) throw new Error(`the PostgreSQL of the tests did not start: ${answer.slice(7)}`);
  return answer;
}

async function administer(connectionString: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
