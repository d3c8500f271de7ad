import { ciDocument, type OpenApiDocument } from '@caisson/contracts/ci/document';
import type { Security } from './caller.ts';
import type { DocumentOperation } from './route-schema.ts';

/** What the routes need to know of one operation of the document. */
export interface ContractOperation {
  readonly id: string;
  readonly method: string;
  /** With its parameters in braces. */
  readonly path: string;
  /** Matches request paths, without the query. */
  readonly pattern: RegExp;
  readonly security: Security;
  /** Status of success. */
  readonly status: number;
  /** Content type of success when it is not JSON. */
  readonly contentType: string | null;
  /** As the document has it. */
  readonly source: DocumentOperation;
}

export interface Contract {
  readonly document: OpenApiDocument;
  readonly operations: ReadonlyMap<string, ContractOperation>;
}

/** The document and an index of its operations. */
export function readContract(): Contract {
  const document = ciDocument();
  const operations = new Map<string, ContractOperation>();
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const read = readOperation(path, method, operation as unknown as DocumentOperation);
      operations.set(read.id, read);
    }
  }
  return { document, operations };
}

function readOperation(path: string, method: string, operation: DocumentOperation): ContractOperation {
  const status = Number(Object.keys(operation.responses).find((key) => key.startsWith('2')));
  const [contentType] = Object.keys(operation.responses[status]?.content ?? {});
  const [scheme] = Object.keys(operation.security[0] ?? {});
  return {
    id: operation.operationId,
    method: method.toUpperCase(),
    path,
    pattern: new RegExp(`^${path.replaceAll('.', '\\.').replace(/\{\w+\}/g, '[^/]+')}$`),
    security: scheme === 'bearer' || scheme === 'runnerToken' ? scheme : 'none',
    status,
    contentType: contentType === undefined || contentType === 'application/json' ? null : contentType,
    source: operation,
  };
}

/** The methods a path takes; empty when it is no path of the contract. */
export function methodsOf(contract: Contract, path: string): string[] {
  return [...contract.operations.values()].filter(({ pattern }) => pattern.test(path)).map(({ method }) => method);
}
