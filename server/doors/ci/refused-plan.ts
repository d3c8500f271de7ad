import { AppError } from '@caisson/contracts/app-error';

/** An `AppError` whose envelope carries further keys beside the usual ones. */
interface DetailedError extends AppError {
  readonly details: Readonly<Record<string, string | number>>;
}

/** The refusal of a graph: the build exists and is failed, so its number is told along with the reason. */
export function refusedPlan(reason: { code: string; message: string }, buildNumber: number): DetailedError {
  const details = { build_error_code: reason.code, build_number: buildNumber };
  return Object.assign(new AppError('build_plan_rejected', `${reason.code}: ${reason.message}`), { details });
}

export function detailsOf(error: AppError): Readonly<Record<string, unknown>> {
  return 'details' in error && typeof error.details === 'object' ? { ...error.details } : {};
}
