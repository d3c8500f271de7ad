export interface SseEvent {
  /** `message` where the stream names none. */
  readonly event: string;
  readonly data: string;
  /** Id of this event or, where it has none, of the last one that had; empty before the first. */
  readonly id: string;
}

/**
 * Reads server-sent events from text that arrives in pieces of any size: each call returns the events its piece completes. An event
 * that is not complete when the text ends is none.
 */
export function sseParser(): (text: string) => readonly SseEvent[] {
  let pending = '';
  let isStart = true;
  /** True when `pending` ends in a CR that may be half of a CRLF. */
  let isHalfEnded = false;
  let event = '';
  let data: string[] = [];
  let id = '';

  /** An empty line ends an event; one without data is none. */
  function dispatch(): SseEvent | null {
    const ended = data.length > 0 ? { event: event || 'message', data: data.join('\n'), id } : null;
    event = '';
    data = [];
    return ended;
  }

  function takeField(line: string): void {
    const [, name = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (name === 'event') event = value;
    else if (name === 'data') data.push(value);
    else if (name === 'id' && !value.includes('\0')) id = value;
  }

  return (text) => {
    pending += isStart ? text.replace(/^\uFEFF/, '') : text;
    if (text !== '') isStart = false;
    // A long line comes in many pieces: looking through all of it for each piece would take quadratic time.
    if (!isHalfEnded && !/[\r\n]/.test(text)) return [];
    const { lines, rest } = splitLines(pending);
    pending = rest;
    isHalfEnded = rest.endsWith('\r');
    const events: SseEvent[] = [];
    for (const line of lines) {
      if (line !== '') takeField(line);
      const ended = line === '' ? dispatch() : null;
      if (ended) events.push(ended);
    }
    return events;
  };
}

/** Complete lines, which end in LF, CR or CRLF. A CR at the very end may be half of a CRLF, so its line is not complete yet. */
function splitLines(text: string): { readonly lines: readonly string[]; readonly rest: string } {
  const held = text.endsWith('\r') ? '\r' : '';
  const parts = text.slice(0, text.length - held.length).split(/\r\n|\n|\r/);
  const rest = parts.pop() ?? '';
  return { lines: parts, rest: rest + held };
}
