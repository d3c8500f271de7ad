import { type PipelineDefinition, pipeline, sh } from '@caisson/pipeline';

// An ordinary step: what is kept of it is its disk.
const install = sh('apt-get update && apt-get install -y --no-install-recommends postgresql', {
  label: ':package: install',
});

// Of this one the memory is kept as well: the server it leaves running runs in each of the forks, with its caches warm.
const server = install.sh(
  `service postgresql start
./ask postgres -c 'create database shop' && ./ask shop < schema.sql
./ask shop < server.sql | tee /started`,
  { label: ':elephant: server', snapshot: 'memory' },
);

// Three tests at once, each against a server of its own that nobody had to start again, with no trace of what the others write.
const tests = ['constraints', 'report', 'rush'].map((name) =>
  server.sh(
    `./ask shop < server.sql > /running && cat /running
cmp /started /running && ./ask shop < tests/${name}.sql && echo "${name}: the same server, a shop of its own"`,
    { label: `:test_tube: ${name}` },
  ),
);

const definitions: PipelineDefinition[] = [
  { slug: 'postgres-forks', name: 'PostgreSQL forks', pipeline: pipeline(tests, { timeout: '1h' }) },
];
export default definitions;
