import { compose, onChange, type PipelineDefinition, pipeline, pullRequest, push, sh, ttl } from '@caisson/pipeline';

// npm comes from Debian because it knows its registry by itself; the Node that everything runs on comes with `npm ci`.
const install = sh(
  `apt-get update -qq
apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null
scripts/setup npm`,
  { label: ':package: install', timeout: '15m', cache: compose(ttl('7d'), onChange('package-lock.json')) },
);

const check = install.sh('scripts/check', { label: ':mag: check', timeout: '10m' });

const unit = install.sh(
  'node_modules/.bin/node node_modules/vitest/vitest.mjs run core/test pipeline/test contracts/test',
  { label: ':test_tube: unit tests', timeout: '10m' },
);

const smoke = unit.sh('./caisson version && ./caisson pipelines && ./caisson render examples/hello >/dev/null', {
  label: ':tada: command line',
  after: check,
});

const definitions: PipelineDefinition[] = [
  {
    slug: 'caisson',
    name: 'Caisson',
    triggers: [push({ branch: 'main' }), pullRequest()],
    pipeline: pipeline([smoke], { timeout: '30m' }),
  },
];
export default definitions;
