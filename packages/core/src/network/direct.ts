import { parseRule } from './rules.js'

/** A host that programs inside reach by its name alone, without knowing of the proxy. */
export interface DirectHost {
  readonly name: string
  readonly ports: readonly number[]
}

/** What an entry without a port means here: a listening socket can't have all ports. */
const DEFAULT_PORTS = [80, 443]
/** What these names mean inside is the sandbox itself. */
const OWN_NAMES = ['localhost', 'deltabox']

/**
 * The hosts of an allow list that have a plain name, each with its ports. The engine makes a listening socket inside for
 * each port, in this order, and the proxy serves them: both have to see the same list.
 */
export function directHosts(allow: readonly string[]): DirectHost[] {
  const ports = new Map<string, Set<number>>()
  for (const entry of allow) {
    const rule = parseRule(entry)
    if (rule?.kind !== 'name' || OWN_NAMES.includes(rule.name)) continue
    const known = ports.get(rule.name) ?? new Set<number>()
    for (const port of rule.port === null ? DEFAULT_PORTS : [rule.port]) known.add(port)
    ports.set(rule.name, known)
  }
  return [...ports].map(([name, numbers]) => ({ name, ports: [...numbers] }))
}
