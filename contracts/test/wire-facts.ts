/** An OpenAPI document as far as it is read here. */
type Node = { readonly [key: string]: unknown };

const methods = new Set(['get', 'put', 'post', 'patch', 'delete']);

/**
 * What an OpenAPI document promises to clients, as sorted lines of names and nothing else: operations with path, parameters, body and
 * answers; schemas with properties. `?` marks what may be absent, `|null` what may be null. Limits of strings are left out.
 */
export function wireFacts(document: Node): readonly string[] {
  const operations = Object.entries(nodeOf(document.paths)).flatMap(([path, item]) =>
    Object.entries(nodeOf(item))
      .filter(([method]) => methods.has(method))
      .flatMap(([method, operation]) => operationFacts(`${method.toUpperCase()} ${path}`, nodeOf(operation))),
  );
  const schemas = Object.entries(nodeOf(nodeOf(document.components).schemas)).flatMap(([name, schema]) =>
    propertyFacts(`schema ${name}`, nodeOf(schema)),
  );
  return [...operations, ...schemas].sort();
}

function operationFacts(route: string, operation: Node): readonly string[] {
  const name = `operation ${operation.operationId}`;
  const security = listOf(operation.security).flatMap((entry) => Object.keys(entry));
  return [
    `${name} route ${route}`,
    `${name} tags ${(operation.tags as string[]).join(',')}`,
    `${name} security ${security.join(',') || 'none'}`,
    ...(operation['x-internal'] ? [`${name} internal`] : []),
    ...listOf(operation.parameters).map((parameter) => {
      const { name: key, in: place, required, schema } = parameter;
      return `${name} ${place} ${key}${required ? '' : '?'} ${describe(nodeOf(schema))}`;
    }),
    ...(operation.requestBody ? [`${name} body ${contentOf(nodeOf(operation.requestBody))}`] : []),
    ...Object.entries(nodeOf(operation.responses)).map(
      ([status, answer]) => `${name} answer ${status} ${contentOf(nodeOf(answer))}`,
    ),
  ];
}

function contentOf(holder: Node): string {
  const content = Object.entries(nodeOf(holder.content));
  const types = content.map(([type, media]) => `${type} ${describe(nodeOf(nodeOf(media).schema))}`);
  return types.join(', ') || 'nothing';
}

function propertyFacts(prefix: string, schema: Node): readonly string[] {
  const required = new Set(listOfNames(schema.required));
  const properties = Object.entries(nodeOf(schema.properties));
  if (properties.length === 0) return [`${prefix} ${describe(schema)}`];
  return properties.map(
    ([key, property]) => `${prefix}.${key}${required.has(key) ? '' : '?'} ${describe(nodeOf(property))}`,
  );
}

function describe(schema: Node): string {
  return `${describeType(schema)}${schema.nullable ? '|null' : ''}`;
}

function describeType(schema: Node): string {
  if (typeof schema.$ref === 'string') return schema.$ref.split('/').at(-1) ?? '';
  if (Array.isArray(schema.enum)) return schema.enum.join('|');
  if (Array.isArray(schema.anyOf)) return listOf(schema.anyOf).map(describe).join(' or ');
  if (schema.type === 'array') return `[${describe(nodeOf(schema.items))}]`;
  if (schema.type === 'object') return describeObject(schema);
  const range = 'minimum' in schema || 'maximum' in schema ? `(${schema.minimum ?? ''}..${schema.maximum ?? ''})` : '';
  return `${schema.type ?? 'anything'}${schema.format ? `:${schema.format}` : ''}${range}`;
}

function describeObject(schema: Node): string {
  const inner = Object.keys(nodeOf(schema.properties)).length > 0 ? propertyFacts('', schema).join(', ') : '';
  const rest = schema.additionalProperties;
  if (rest === true) return '{anything}';
  return rest ? `{${describe(nodeOf(rest))}}` : `{${inner}}`;
}

function nodeOf(value: unknown): Node {
  return (value ?? {}) as Node;
}

function listOf(value: unknown): readonly Node[] {
  return (value ?? []) as readonly Node[];
}

function listOfNames(value: unknown): readonly string[] {
  return (value ?? []) as readonly string[];
}
