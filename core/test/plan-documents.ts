/** Documents as the three kinds of author write them: flat, graph with `cmd`, graph with `eval`. */
export const flatDocument = {
  version: '0',
  env: { CI: 'true' },
  default_image: 'ubuntu:24.04',
  steps: [
    {
      type: 'command',
      key: 'base',
      cmd: 'apt-get update && apt-get install -y make',
      builds_in: null,
      label: ':apt: base',
      image: 'ubuntu:24.04',
      cache: { policy: 'ttl', duration_seconds: 86_400, env_keys: [] },
    },
    { type: 'command', key: 'build', cmd: 'make build', builds_in: 'base', label: 'build' },
    { type: 'command', key: 'unit', cmd: 'make unit', builds_in: 'build', label: 'unit', timeout_seconds: 600 },
    { type: 'command', key: 'lint-c', cmd: 'make lint', builds_in: 'build', label: 'lint' },
    { type: 'wait' },
    { type: 'command', key: 'deploy', cmd: 'make deploy', builds_in: null, label: 'deploy', env: { TARGET: 'prod' } },
  ],
};

const baseKey = '3dcfca7073b0e9afd1a299174b95a391db27b310fae1a6c303c1a8f1bf280589';
const depsKey = '7eb68fc6db63ace700f4427e0ca201600e5c7bcc8083dcb97513f62a23717615';

export const graphDocument = {
  version: '0',
  default_image: 'ubuntu:24.04',
  timeout_seconds: 1800,
  graph: {
    nodes: [
      {
        step: {
          key: 'base',
          cmd: 'apt-get update && apt-get install -y make',
          label: ':apt: base',
          image: 'ubuntu:24.04',
          cache: { policy: 'ttl', duration_seconds: 86_400, env_keys: [], key: baseKey },
        },
        env: { CI: 'true' },
      },
      {
        step: {
          key: 'deps',
          cmd: 'npm ci',
          label: ':node: deps',
          cache: { policy: 'on_change', paths: ['package-lock.json'], key: depsKey },
        },
        env: { CI: 'true' },
      },
      {
        step: { key: 'test', cmd: 'npm test', label: 'test', timeout_seconds: 900 },
        env: { CI: 'true', NODE_ENV: 'test' },
      },
      { step: { key: 'publish', cmd: 'npm publish', label: 'publish', image: 'ubuntu:24.04' }, env: { CI: 'true' } },
    ],
    node_holes: [],
    edge_property: 'directed',
    edges: [
      [0, 1, 'builds_in'],
      [1, 2, 'builds_in'],
      [0, 3, 'depends_on'],
      [1, 3, 'depends_on'],
      [2, 3, 'depends_on'],
    ],
  },
};

const plain = { DEBIAN_FRONTEND: 'noninteractive', TERM: 'dumb' };

export const evalDocument = {
  version: '0',
  graph: {
    nodes: [
      {
        step: {
          key: 'setup',
          eval: { type: 'cmd', cmd: 'pip install uv' },
          image: 'python:3.12',
          secrets: {},
          cache: {
            policy: 'compose',
            sub_policies: [
              { policy: 'forever', env_keys: ['PYTHON_VERSION'] },
              { policy: 'on_change', paths: ['uv.lock'] },
            ],
          },
        },
        env: plain,
        secrets: {},
      },
      { step: { key: 'shards', eval: { type: 'dynamic', target_name: 'shards' }, secrets: {} }, env: plain },
    ],
    node_holes: [],
    edge_property: 'directed',
    edges: [[0, 1, 'builds_in']],
  },
};
