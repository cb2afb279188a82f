/**
 * The environment of every command before its own `envs`. Nothing of the client's environment goes in: it may hold
 * keys. User prefixes lie below /root because system directories are read-only in an unprivileged sandbox; pip refuses
 * to install beside a distribution's own packages otherwise (PEP 668), which go below /root here.
 */
export const DEFAULT_ENVIRONMENT: Readonly<Record<string, string>> = {
  PATH: '/root/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  USER: 'root',
  LANG: 'C.UTF-8',
  TERM: 'dumb',
  npm_config_prefix: '/root/.local',
  PYTHONUSERBASE: '/root/.local',
  PIP_USER: '1',
  PIP_BREAK_SYSTEM_PACKAGES: '1',
}

/** As `NAME=value` strings. */
export function toEnvironmentStrings(variables: Readonly<Record<string, string>>): string[] {
  return Object.entries(variables).map(([name, value]) => `${name}=${value}`)
}
