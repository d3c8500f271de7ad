import { AppError } from '@caisson/contracts/app-error';
import { errorTable } from '@caisson/contracts/error-table';
import { CliError } from './cli-error.ts';
import { exitCodes } from './exit-codes.ts';

interface Envelope {
  readonly error?: { readonly code?: unknown; readonly message?: unknown };
}

interface Answer<T> {
  readonly data?: T;
  readonly error?: unknown;
  readonly response: Response;
}

/** The data of an answer of the CI door; a refusal becomes the error with its code, no answer at all one that says so. */
export async function ask<T>(call: Promise<Answer<T>>): Promise<T> {
  const answer = await call.catch((cause: unknown) => {
    throw new CliError('the server does not answer', {
      exitCode: exitCodes.machine,
      code: 'no_server',
      hint: 'is it still running, and CAISSON_URL right if it is set?',
      cause,
    });
  });
  if (answer.response.ok) return answer.data as T;
  throw refusalOf(answer.error, answer.response.status);
}

/** The error a refusal's body stands for. */
export function refusalOf(body: unknown, status: number): Error {
  const { code, message } = (body as Envelope | null)?.error ?? {};
  const known = Object.keys(errorTable).find((each): each is keyof typeof errorTable => each === code);
  if (known === undefined) {
    return new CliError(`the server answered ${status}`, { exitCode: exitCodes.api, code: String(code ?? 'unknown') });
  }
  return new AppError(known, String(message));
}
