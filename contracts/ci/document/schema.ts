/** A schema object as OpenAPI 3.0 spells it. */
export interface JsonSchema {
  readonly [keyword: string]: unknown;
}
export type Properties = Readonly<Record<string, JsonSchema>>;

export function text(description: string, limits: JsonSchema = {}): JsonSchema {
  return { type: 'string', description, ...limits };
}

/** A string that must hold something besides white space. */
export function words(description: string, maxLength: number): JsonSchema {
  return text(description, { minLength: 1, maxLength, pattern: '\\S' });
}

export function uuid(description: string): JsonSchema {
  return text(description, { format: 'uuid' });
}

/** A moment: ISO 8601 in UTC with microseconds and `Z`. */
export function time(description: string): JsonSchema {
  return text(description, { format: 'date-time' });
}

export function choice(description: string, values: readonly string[]): JsonSchema {
  return text(description, { enum: [...values] });
}

export function integer(description: string, limits: JsonSchema = {}): JsonSchema {
  return { type: 'integer', description, ...limits };
}

export function flag(description: string): JsonSchema {
  return { type: 'boolean', description };
}

/** An object whose keys the contract does not name. */
export function anyObject(description: string): JsonSchema {
  return { type: 'object', description, additionalProperties: true };
}

export function ref(name: string): JsonSchema {
  return { $ref: `#/components/schemas/${name}` };
}

export function listOf(items: JsonSchema, description: string): JsonSchema {
  return { type: 'array', description, items };
}

export function nullable(schema: JsonSchema): JsonSchema {
  return { ...schema, nullable: true };
}

/** Marks what is ours and not part of the wire that other clients know. */
export function own(schema: JsonSchema): JsonSchema {
  return { ...schema, 'x-caisson': true };
}

/**
 * An object. Keys beside the named ones are accepted in requests and dropped from answers. A nullable property of an answer belongs
 * to `required`: it is always present.
 */
export function record(description: string, required: Properties, optional: Properties = {}): JsonSchema {
  const names = Object.keys(required);
  return {
    type: 'object',
    description,
    ...(names.length > 0 ? { required: names } : {}),
    properties: { ...required, ...optional },
  };
}

/** `{data}`: a whole list in one answer. */
export function wholeList(item: string, description: string): JsonSchema {
  return record(description, { data: listOf(ref(item), 'The entries.') });
}

/** `{data, next_cursor}`: one page of a list. */
export function page(item: string, description: string): JsonSchema {
  return record(description, {
    data: listOf(ref(item), 'The entries of this page.'),
    next_cursor: nullable(text('Pass it as `cursor` for the next page; null on the last one.')),
  });
}
