import type { PlanRejection, PlanRejectionCode } from './plan.ts';
import type { PlanLimits } from './plan-limits.ts';

/** A document while it is read: everything is looked at in order, and the first fault is kept. */
export interface Reading {
  readonly limits: PlanLimits;
  rejection: PlanRejection | null;
}

/** One object of the document, and the step it belongs to; null outside of any. */
export interface At {
  readonly reading: Reading;
  readonly fields: JsonObject;
  readonly step: StepPlace | null;
}

/** A step by its index in the document and whatever it has as key. */
export interface StepPlace {
  readonly index: number;
  readonly key: unknown;
}

export type JsonObject = Readonly<Record<string, unknown>>;

/** Keeps the fault unless there is one already. `what` goes on after the name of the step. */
export function refuse(at: At, code: PlanRejectionCode, what: string): void {
  if (at.reading.rejection !== null) return;
  const step = at.step === null ? null : nameStep(at.step, at.reading.limits.nameLength);
  const subject = at.step === null ? 'The pipeline' : `Step ${step === null ? at.step.index : quote(step)}`;
  at.reading.rejection = { ok: false, code, message: `${subject} ${what}`, step: step ?? indexOf(at.step) };
}

function nameStep({ key }: StepPlace, maxLength: number): string | null {
  const isUsable = typeof key === 'string' && key !== '' && key.length <= maxLength && isStorable(key);
  return isUsable ? key : null;
}

function indexOf(step: StepPlace | null): string | null {
  return step === null ? null : String(step.index);
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An own field; null counts as absent, as it does in every dialect. */
export function fieldOf(fields: JsonObject, name: string): unknown {
  return Object.hasOwn(fields, name) ? (fields[name] ?? null) : null;
}

/** A string in the field, or null when it is absent or refused. */
export function readText(at: At, name: string, maxLength: number): string | null {
  const value = fieldOf(at.fields, name);
  if (value === null) return null;
  if (typeof value !== 'string') {
    refuse(at, 'invalid_ir', `has ${describe(value)} as ${name}; it must be a string.`);
    return null;
  }
  if (!isStorable(value)) {
    refuse(at, 'invalid_ir', `has a NUL or half a character in ${name}; take it out.`);
    return null;
  }
  if (value.length > maxLength) {
    refuse(at, 'too_large', `has ${value.length} characters in ${name}; at most ${maxLength} are allowed.`);
  }
  return value;
}

/** A string like `readText` that must not be empty. */
export function readName(at: At, name: string): string | null {
  const value = readText(at, name, at.reading.limits.nameLength);
  if (value === '') refuse(at, 'invalid_ir', `has an empty ${name}; give it a value or leave it out.`);
  return value;
}

/** `timeout_seconds` in milliseconds, or null. The top is what a 32-bit count of milliseconds holds. */
export function readTimeout(at: At): number | null {
  const value = fieldOf(at.fields, 'timeout_seconds');
  if (value === null) return null;
  const seconds = Number.isInteger(value) ? Number(value) : 0;
  if (seconds >= 1 && seconds <= 2_147_483) return seconds * 1000;
  const what = typeof value === 'number' ? String(value) : describe(value);
  refuse(at, 'invalid_ir', `has ${what} as timeout_seconds; it must be a whole number from 1 to 2147483.`);
  return null;
}

/** False for what PostgreSQL's text and JSON, and a process's arguments, cannot hold. */
export function isStorable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

/** Bytes of the UTF-8 form of a well-formed text. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // The two halves of a surrogate pair are four bytes together.
    if (unit > 0x7f) bytes += unit > 0x7ff && (unit < 0xd800 || unit > 0xdfff) ? 2 : 1;
  }
  return bytes;
}

/** What a value is, for messages. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return 'nothing';
  if (Array.isArray(value)) return 'an array';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

/** A name in quotes, everything unprintable escaped, cut to a length that fits a message. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name);
}
