import { ciDocument } from '@caisson/contracts/ci/document';
import { expect, test } from 'vitest';
import { compileLate } from '../compile-late.ts';
import { readContract } from '../doors/ci/contract.ts';
import { makeRouteSchemas } from '../doors/ci/route-schema.ts';

test('every request of the door can be checked and every answer written', () => {
  const contract = readContract();
  const schemaOf = makeRouteSchemas(contract.document);
  const check = compileLate.buildValidator({}, { customOptions: { strict: false } });
  const write = compileLate.buildSerializer({}, {});
  for (const { id, method, path, source } of contract.operations.values()) {
    const { params, querystring, body, response } = schemaOf(source);
    for (const schema of [params, querystring, body].filter((one) => one !== undefined)) {
      const validate = check({ schema, method, url: path } as never) as (data: unknown) => unknown;
      expect(validate(0), id).toBe(false);
    }
    for (const [httpStatus, { content }] of Object.entries(response as Record<string, { content: Contents }>)) {
      for (const { schema } of Object.values(content)) {
        const serialize = write({ schema, method, url: path, httpStatus });
        try {
          serialize({});
        } catch (error) {
          expect(String(error), `${id} ${httpStatus}`).toMatch(/is required|does not match/);
        }
      }
    }
  }
});

type Contents = Record<string, { schema: unknown }>;

test('a schema that holds itself, or is not there, is refused when the routes are made', () => {
  const { components, ...document } = ciDocument();
  const pointing = (name: string) => ({
    operationId: 'x',
    security: [],
    responses: { 200: { content: { 'application/json': { schema: { $ref: `#/components/schemas/${name}` } } } } },
  });
  const circle = { type: 'object', properties: { inner: { $ref: '#/components/schemas/Circle' } } };
  const schemaOf = makeRouteSchemas({ ...document, components: { ...components, schemas: { Circle: circle } } });
  expect(() => schemaOf(pointing('Circle'))).toThrow('schema Circle is not there or holds itself');
  expect(() => schemaOf(pointing('Nothing'))).toThrow('schema Nothing is not there or holds itself');
});
