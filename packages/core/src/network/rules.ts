import { BlockList, isIP, isIPv4 } from 'node:net'
import { familyOf, isLoopback, isPublic, normaliseAddress } from './addresses.js'

/**
 * One entry of an allow list.
 *
 * - `name`: this host; `suffix`: every host below this domain, not the domain itself; `any`: every host.
 * - `subnet`: addresses. Only such a rule opens addresses that are not public.
 */
export type NetworkRule =
  | { readonly kind: 'name' | 'suffix'; readonly name: string; readonly port: number | null }
  | { readonly kind: 'any'; readonly port: number | null }
  | { readonly kind: 'subnet'; readonly subnet: BlockList; readonly port: number | null }

const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/
const MAX_NAME_LENGTH = 253

/** Parses an entry; undefined when it has none of the forms. */
export function parseRule(text: string): NetworkRule | undefined {
  const split = splitPort(text)
  if (split === undefined) return undefined
  const { host, port } = split
  const subnet = parseSubnet(host)
  if (subnet !== undefined) return { kind: 'subnet', subnet, port }
  if (host === '*') return { kind: 'any', port }
  if (host.startsWith('*.')) {
    const name = normaliseName(host.slice(2))
    return name === undefined ? undefined : { kind: 'suffix', name, port }
  }
  const name = normaliseName(host)
  return name === undefined ? undefined : { kind: 'name', name, port }
}

/** `host:port`, `[address]:port` or either without a port; undefined when that is not what it is. */
export function splitPort(text: string): { host: string; port: number | null } | undefined {
  const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(text)
  const parts = bracketed ?? /^([^:[\]]+)(?::(\d+))?$/.exec(text)
  if (parts === null) {
    // An IPv6 address without brackets has no port.
    return /^[0-9a-fA-F:.]+(\/\d+)?$/.test(text) ? { host: text, port: null } : undefined
  }
  const [, host = '', portText] = parts
  if (bracketed !== null && isIP(host.replace(/\/\d+$/, '')) !== 6) return undefined
  const port = portText === undefined ? null : Number(portText)
  if (port !== null && (port < 1 || port > 65_535)) return undefined
  return { host, port }
}

/** Lower case and without the root's dot; undefined for what is no host name. */
export function normaliseName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, '')
  if (name.length === 0 || name.length > MAX_NAME_LENGTH) return undefined
  return name.split('.').every((label) => LABEL.test(label)) ? name : undefined
}

function parseSubnet(host: string): BlockList | undefined {
  const [addressText = '', prefixText, ...more] = host.split('/')
  if (more.length > 0 || isIP(addressText) === 0) return undefined
  const address = normaliseAddress(addressText)
  if (address === undefined) return undefined
  const bits = isIPv4(address) ? 32 : 128
  const prefix = prefixText === undefined ? bits : Number(prefixText)
  if (!/^\d+$/.test(prefixText ?? '0') || prefix > bits) return undefined
  const subnet = new BlockList()
  subnet.addSubnet(address, prefix, familyOf(address))
  return subnet
}

function fits(rule: NetworkRule, port: number): boolean {
  return rule.port === null || rule.port === port
}

/** Whether a name may be looked up and connected to at all; its addresses are judged one by one afterwards. */
export function allowsName(rules: readonly NetworkRule[], name: string, port: number): boolean {
  return rules.some((rule) => {
    if (!fits(rule, port)) return false
    if (rule.kind === 'any') return true
    if (rule.kind === 'name') return rule.name === name
    return rule.kind === 'suffix' && name.endsWith(`.${rule.name}`)
  })
}

/** Where a connection is asked to go. */
export interface Destination {
  /** A normalised name, or null when an address was asked for. */
  readonly name: string | null
  /** Normalised. */
  readonly address: string
  readonly port: number
}

/**
 * Whether a connection may be made to an address. A name that is allowed opens public addresses only, so that whoever
 * answers for the name can't lead a connection to the host or its neighbours; those have to be named by address. The
 * one exception is `localhost`, which can mean nothing else.
 */
export function allowsAddress(
  rules: readonly NetworkRule[],
  { name, address, port }: Destination,
  ownAddresses: readonly string[],
): boolean {
  const byAddress = rules.some(
    (rule) => rule.kind === 'subnet' && fits(rule, port) && rule.subnet.check(address, familyOf(address)),
  )
  if (byAddress) return true
  const byName = name === null ? rules.some((rule) => rule.kind === 'any' && fits(rule, port)) : true
  if (!byName || (name !== null && !allowsName(rules, name, port))) return false
  if (isPublic(address) && !ownAddresses.includes(address)) return true
  const meansLoopback = rules.some((rule) => rule.kind === 'name' && rule.name === 'localhost' && fits(rule, port))
  return name === 'localhost' && meansLoopback && isLoopback(address)
}
