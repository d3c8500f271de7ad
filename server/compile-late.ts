import { AjvCompiler, type BuildCompilerFromPool } from '@fastify/ajv-compiler';
import { SerializerSelector } from '@fastify/fast-json-stringify-compiler';
import type { FastifyServerOptions } from 'fastify';

type Controller = NonNullable<FastifyServerOptions['schemaController']>;
type Compilers = Required<NonNullable<Controller['compilersFactory']>>;

/**
 * Fastify's own compilers, put to work for a schema when it is first needed: of the hundreds of a door most are not, in a process
 * that lives for one build, and all of them at the start take longer than the rest of it.
 */
export const compileLate: Compilers = {
  buildValidator: ((schemas, options) => {
    const compile = AjvCompiler()(schemas, options);
    return (route: Parameters<typeof compile>[0]) => {
      const validate = late(() => compile(route));
      const check = (data: unknown) => {
        const result = validate()(data);
        Object.assign(check, { errors: validate().errors });
        return result;
      };
      return check as ReturnType<typeof compile>;
    };
  }) satisfies BuildCompilerFromPool,
  buildSerializer(schemas, options) {
    const compile = SerializerSelector()(schemas, options);
    return (route) => {
      const write = late(() => compile(route));
      return (data) => write()(data);
    };
  },
};

function late<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
