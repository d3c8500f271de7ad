/** For the end of a switch over a union: a member without a case does not compile; a value from outside the union throws. */
export function assertNever(value: never): never {
  throw new Error(`unexpected value: ${JSON.stringify(value)}`);
}
