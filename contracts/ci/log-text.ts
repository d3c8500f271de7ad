interface DecodedOutput {
  readonly content: string;
  /** Bytes of a character that has only begun; they belong in front of the next bytes of the same stream. */
  readonly rest: Uint8Array;
}

/**
 * Raw output as the text of the log stream. A character cut by the end of a chunk waits in `rest` for the next one; bytes that are
 * no UTF-8 become U+FFFD. Whoever starts in the middle of a log passes the `rest` of the chunk before.
 */
export function decodeOutput(rest: Uint8Array, bytes: Uint8Array): DecodedOutput {
  const all = new Uint8Array(rest.length + bytes.length);
  all.set(rest);
  all.set(bytes, rest.length);
  const end = all.length - begunLength(all);
  // Without ignoreBOM a decoder eats U+FEFF at the start of every chunk.
  const content = new TextDecoder('utf-8', { ignoreBOM: true }).decode(all.subarray(0, end));
  return { content, rest: all.slice(end) };
}

/** How many bytes at the end are the beginning of one character. */
function begunLength(bytes: Uint8Array): number {
  for (let length = 1; length <= Math.min(3, bytes.length); length++) {
    const byte = bytes[bytes.length - length] ?? 0;
    if (isContinuation(byte)) continue;
    return characterLength(byte) > length ? length : 0;
  }
  return 0;
}

function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

function characterLength(lead: number): number {
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  return lead >= 0xc2 && lead < 0xe0 ? 2 : 1;
}
