/** A length of time: whole seconds as a number, or `30s`, `5m`, `1h30m`, `1d`. */
export type Duration = number | string;

const unitSeconds: Readonly<Record<string, number>> = { d: 86_400, h: 3_600, m: 60, s: 1 };
const maxSeconds = 4_294_967_295;

/** Whole seconds, 1 to 2^32 - 1. Throws with `what` in front when the duration cannot be read. */
export function parseDuration(duration: Duration, what: string): number {
  const seconds = typeof duration === 'number' ? duration : parseText(duration);
  if (!Number.isInteger(seconds) || seconds < 1 || seconds > maxSeconds) {
    throw new Error(
      `${what}: ${JSON.stringify(duration)} is not a duration. Write whole seconds above 0, or text like "30s", "5m", "1h30m".`,
    );
  }
  return seconds;
}

function parseText(text: unknown): number {
  if (typeof text !== 'string' || !/^(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?$/.test(text.trim())) return Number.NaN;
  return [...text.matchAll(/(\d+)([dhms])/g)].reduce(
    (sum, [, amount, unit]) => sum + Number(amount) * (unitSeconds[unit ?? ''] ?? Number.NaN),
    0,
  );
}
