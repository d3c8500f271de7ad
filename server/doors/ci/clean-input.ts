import { AppError } from '@caisson/contracts/app-error';
import type { FastifyRequest } from 'fastify';

/**
 * Before validation: numbers in the path become numbers, and text that no PostgreSQL column holds (NUL, half a surrogate pair) is
 * refused with `invalid_request`, wherever it is.
 */
export async function cleanInput(request: FastifyRequest): Promise<void> {
  readIntegers(request.params, propertiesOf(request.routeOptions.schema?.params));
  refuseUnstorable(request.params, 'path');
  refuseUnstorable(request.query, 'query');
  refuseUnstorable(request.body, 'body');
}

function propertiesOf(schema: unknown): Record<string, { type?: unknown }> {
  const { properties } = (schema ?? {}) as { properties?: Record<string, { type?: unknown }> };
  return properties ?? {};
}

function readIntegers(values: unknown, properties: Record<string, { type?: unknown }>): void {
  const record = (values ?? {}) as Record<string, unknown>;
  for (const [name, { type }] of Object.entries(properties)) {
    const text = record[name];
    if (type === 'integer' && typeof text === 'string' && /^-?\d+$/.test(text)) record[name] = Number(text);
  }
}

/** With a list instead of recursion: input may be nested deeper than the stack is. */
function refuseUnstorable(input: unknown, where: string): void {
  const waiting: unknown[] = [input];
  while (waiting.length > 0) {
    const value = waiting.pop();
    if (typeof value === 'string' && !isStorable(value)) {
      throw new AppError('invalid_request', `${where}: text must be valid Unicode without NUL`);
    }
    if (Array.isArray(value)) for (const item of value) waiting.push(item);
    else if (isPlain(value)) for (const [key, item] of Object.entries(value)) waiting.push(key, item);
  }
}

function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

/** Not a stream: an upload is not text. */
function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || !('pipe' in value);
}
