/** One server-sent event; `id` null when it has none. */
export interface ReadEvent {
  readonly event: string;
  readonly id: string | null;
  readonly data: unknown;
}

/** A client of a stream of server-sent events. */
export interface EventReader {
  readonly status: number;
  readonly headers: Headers;
  /** The next event; rejects when the stream is over. Comments are passed over. */
  next(): Promise<ReadEvent>;
  /** All events until the server ends the stream. */
  rest(): Promise<ReadEvent[]>;
  close(): void;
}

export async function readEvents(url: string, headers: Record<string, string> = {}): Promise<EventReader> {
  const abort = new AbortController();
  const response = await fetch(url, { headers, signal: abort.signal });
  // Taken at once: the body of a response that nobody holds any more and nobody reads yet is ended by the collector of garbage.
  const texts = (response.body ?? new ReadableStream()).pipeThrough<string>(new TextDecoderStream() as never);
  const events = eventsOf(texts);
  return {
    status: response.status,
    headers: response.headers,
    async next() {
      const { done, value } = await events.next();
      if (done) throw new Error('the stream is over');
      return value;
    },
    async rest() {
      const all: ReadEvent[] = [];
      for await (const event of events) all.push(event);
      return all;
    },
    close: () => abort.abort(),
  };
}

/** The output in the `chunk` events. */
export function chunkText(events: readonly ReadEvent[]): string {
  return events.map(({ event, data }) => (event === 'chunk' ? (data as { content: string }).content : '')).join('');
}

async function* eventsOf(texts: ReadableStream<string>): AsyncGenerator<ReadEvent, undefined> {
  let buffer = '';
  for await (const text of texts as unknown as AsyncIterable<string>) {
    buffer += text;
    const frames = buffer.split('\n\n');
    buffer = frames.pop() ?? '';
    for (const frame of frames) {
      const event = parse(frame);
      if (event) yield event;
    }
  }
  return undefined;
}

function parse(frame: string): ReadEvent | null {
  const fields = new Map(frame.split('\n').map((line) => line.split(/: (.*)/s, 2) as [string, string]));
  const event = fields.get('event');
  if (!event) return null;
  return { event, id: fields.get('id') ?? null, data: JSON.parse(fields.get('data') ?? 'null') };
}
