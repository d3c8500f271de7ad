import createClient, { type Client } from 'openapi-fetch';
import type { paths } from './ci/ci-api.generated.ts';

interface CiClientOptions {
  /** Where the server is, without a slash at the end. */
  readonly baseUrl: string;
  /** Left out for the operations that need none. */
  readonly token?: string;
  readonly fetch?: (request: Request) => Promise<Response>;
}

export type CiClient = Client<paths>;

/**
 * The operations of the CI door, typed by path: `client.GET('/api/v0/user')` resolves to `{data}` or `{error}`, where `error` is the
 * door's envelope. Rejects only when there was no answer at all. Works in browsers too.
 */
export function createCiClient({ baseUrl, token, fetch }: CiClientOptions): CiClient {
  return createClient<paths>({
    baseUrl,
    ...(token ? { headers: { authorization: `Bearer ${token}` } } : {}),
    ...(fetch ? { fetch } : {}),
  });
}
