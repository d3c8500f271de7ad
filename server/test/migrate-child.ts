import { pathToFileURL } from 'node:url';
import { migrate } from '../store/migrate.ts';

// A process that is killed in the middle of it.
const [connectionString = '', directory = ''] = process.argv.slice(2);
await migrate(connectionString, pathToFileURL(`${directory}/`));
