import { expect, test } from 'vitest';
import { parseImageReference } from '../image-reference.ts';

const digest = `sha256:${'ab'.repeat(32)}`;

test.each([
  ['ubuntu', 'docker.io/library/ubuntu:latest', 'docker.io', false],
  ['ubuntu:24.04', 'docker.io/library/ubuntu:24.04', 'docker.io', false],
  ['docker://a/b', 'docker.io/a/b:latest', 'docker.io', false],
  ['example.org/a/b:c', 'example.org/a/b:c', 'example.org', false],
  ['localhost/a', 'localhost/a:latest', 'localhost', true],
  ['localhost:5000/x/y:tag', 'localhost:5000/x/y:tag', 'localhost:5000', true],
  ['127.0.0.1:5000/x', '127.0.0.1:5000/x:latest', '127.0.0.1:5000', true],
  ['[::1]:5000/x', '[::1]:5000/x:latest', '[::1]:5000', true],
  ['127.0.0.1.example.org/x', '127.0.0.1.example.org/x:latest', '127.0.0.1.example.org', false],
  ['localhost.example.org:5000/x', 'localhost.example.org:5000/x:latest', 'localhost.example.org:5000', false],
  [`a@${digest}`, `docker.io/library/a@${digest}`, 'docker.io', false],
  [`a:tag@${digest}`, `docker.io/library/a@${digest}`, 'docker.io', false],
])('%s is %s', (text, name, registry, isLoopback) => {
  expect(parseImageReference(text)).toMatchObject({ name, registry, isLoopback });
});
