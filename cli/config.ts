type Environment = Readonly<Record<string, string | undefined>>;

/** Settings of the command itself; those of an installation are in the server's configuration. */
export interface CliConfig {
  /** CAISSON_DEBUG: shows the stack of an error. */
  readonly debug: boolean;
  /** CAISSON_URL: the control plane to talk to, instead of one on this machine. */
  readonly url: string | null;
  /** CAISSON_TOKEN: the token for it. */
  readonly token: string | null;
  /** CAISSON_ORG: slug of the organization; `local` unless given. */
  readonly organization: string;
  /** CAISSON_HOST_TOKEN: the secret of hosts that answer on a network. */
  readonly hostToken: string | null;
  /** NO_COLOR is not set. */
  readonly hasColors: boolean;
  /** The whole environment, for `readConfig` of the server and for nothing else. */
  readonly environment: Environment;
}

/** What `--driver` says wins over the variable. */
export function withDriver(config: CliConfig, driver: string | undefined): CliConfig {
  if (driver === undefined) return config;
  return { ...config, environment: { ...config.environment, CAISSON_DRIVER: driver } };
}

/** Reads the settings; without an argument from the environment of this process, which is read nowhere else in the CLI. */
// biome-ignore lint/style/noProcessEnv: the one place
export function readCliConfig(environment: Environment = process.env): CliConfig {
  return {
    debug: Boolean(environment.CAISSON_DEBUG),
    url: environment.CAISSON_URL?.replace(/\/+$/, '') || null,
    token: environment.CAISSON_TOKEN || null,
    organization: environment.CAISSON_ORG || 'local',
    hostToken: environment.CAISSON_HOST_TOKEN || null,
    hasColors: !environment.NO_COLOR,
    environment,
  };
}
