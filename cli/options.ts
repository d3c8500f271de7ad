import { driverWishes } from '@caisson/host/config';
import { InvalidArgumentError, Option } from 'commander';

/** Options that several commands have, and readers of their values. */
export const driverOption = new Option('--driver <which>', 'what runs capsules (or CAISSON_DRIVER)').choices(
  driverWishes,
);
export const dataDirOption = new Option('-d, --data-dir <dir>', 'where everything is kept (or CAISSON_DATA_DIR)');

/** For an option that may be repeated. */
export function collect(value: string, before: readonly string[] = []): readonly string[] {
  return [...before, value];
}

/** A port as it was typed. */
export function readPort(text: string): string {
  if (/^\d{1,5}$/.test(text) && Number(text) < 2 ** 16) return text;
  throw new InvalidArgumentError('It must be a number from 0 to 65535.');
}
