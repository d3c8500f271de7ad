/** The bytes as they are; throws what `tooMany` makes as soon as there are more than `limitBytes`. */
export async function* atMost(
  bytes: AsyncIterable<Uint8Array>,
  limitBytes: number,
  tooMany: () => Error,
): AsyncIterable<Uint8Array> {
  let sizeBytes = 0;
  for await (const chunk of bytes) {
    sizeBytes += chunk.length;
    if (sizeBytes > limitBytes) throw tooMany();
    yield chunk;
  }
}
