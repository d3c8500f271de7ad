import { startPostgres } from '../postgres-supervisor.ts';

// A process for tests to kill: runs the database of the directory in its argument and prints one line once that is up.
const log = { info: () => {}, warn: () => {} };
const postgres = await startPostgres({ dataDir: process.argv[2] ?? '', log });
console.log(JSON.stringify({ pid: postgres.pid(), connectionString: postgres.connectionString }));
