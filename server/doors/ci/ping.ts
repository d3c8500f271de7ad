import type { Handler } from './operation.ts';

export const ping: Handler<'ping'> = async () => ({ status: 'ok' });
