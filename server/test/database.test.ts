import pg from 'pg';
import { expect, test } from 'vitest';
import { freshDatabase } from './database.ts';

async function query(connectionString: string, sql: string) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

test('a fresh database is migrated, and another one sees nothing of it', async () => {
  const one = await freshDatabase();
  const other = await freshDatabase();
  try {
    expect((await query(one.connectionString, 'select name from migrations')).length).toBeGreaterThan(0);
    await query(one.connectionString, 'create table only_here (id int)');
    expect(await query(other.connectionString, "select to_regclass('only_here') as found")).toEqual([{ found: null }]);
  } finally {
    await one.drop();
    await other.drop();
  }
});

test('dropping a database ends what is still connected to it', async () => {
  const database = await freshDatabase();
  const client = new pg.Client({ connectionString: database.connectionString });
  await client.connect();
  const ended = new Promise((resolve) => client.on('error', resolve));
  await database.drop();
  expect(String(await ended)).toContain('terminat');
});
