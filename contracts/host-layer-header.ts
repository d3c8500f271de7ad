import type { LayerUpload } from './host-api.ts';

/** Header of `PUT /layers`: what comes, as base64url of JSON. */
export const layerHeader = 'caisson-layer';

/** Trailer behind the last byte of `GET /layers/<copyId>`: a connection that breaks looks like an end otherwise. */
export const endTrailer = 'caisson-whole';

export function encodeLayerHeader(layer: LayerUpload): string {
  return Buffer.from(JSON.stringify(layer)).toString('base64url');
}

/** Throws `SyntaxError` when it is anything else. */
export function decodeLayerHeader(text: string): LayerUpload {
  return JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
}
