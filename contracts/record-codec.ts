/**
 * A record with a JSON header and raw bytes: u32 header length, header, u32 payload length, payload (little endian). Used by the
 * host's journal and by the message stream between host and control plane, where JSON alone would have to encode the bytes.
 */
interface WireRecord {
  readonly header: unknown;
  readonly payload: Uint8Array;
}

const lengthBytes = 4;

export function encodeRecord(header: unknown, payload: Uint8Array): Uint8Array {
  const head = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(2 * lengthBytes + head.length + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, head.length, true);
  bytes.set(head, lengthBytes);
  view.setUint32(lengthBytes + head.length, payload.length, true);
  bytes.set(payload, 2 * lengthBytes + head.length);
  return bytes;
}

/** The complete records at the start of `bytes` and how many bytes they take; a torn last record is left over. */
export function decodeRecords(bytes: Uint8Array): { records: WireRecord[]; used: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const records: WireRecord[] = [];
  let used = 0;
  while (bytes.length - used >= lengthBytes) {
    const headEnd = used + lengthBytes + view.getUint32(used, true);
    if (headEnd + lengthBytes > bytes.length) break;
    const payloadEnd = headEnd + lengthBytes + view.getUint32(headEnd, true);
    if (payloadEnd > bytes.length) break;
    const head = new TextDecoder().decode(bytes.subarray(used + lengthBytes, headEnd));
    records.push({ header: JSON.parse(head), payload: bytes.subarray(headEnd + lengthBytes, payloadEnd) });
    used = payloadEnd;
  }
  return { records, used };
}
