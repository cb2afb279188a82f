import { BlockList, isIP, isIPv4 } from 'node:net'

/**
 * Ranges of the IANA special-purpose registries that are the host's, its neighbours', or lead back to them; translated and
 * tunnelled forms of IPv4 addresses are among them. Those for documentation are not: they belong to nobody.
 */
const NOT_PUBLIC: readonly (readonly [string, number])[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
  ['::', 96],
  ['64:ff9b::', 96],
  ['64:ff9b:1::', 48],
  ['100::', 64],
  ['2001::', 23],
  ['2002::', 16],
  ['fc00::', 7],
  ['fe80::', 10],
  ['fec0::', 10],
  ['ff00::', 8],
]

const notPublic = new BlockList()
for (const [address, prefix] of NOT_PUBLIC) notPublic.addSubnet(address, prefix, isIPv4(address) ? 'ipv4' : 'ipv6')

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** "ipv4" or "ipv6" of an address. */
export function familyOf(address: string): 'ipv4' | 'ipv6' {
  return isIPv4(address) ? 'ipv4' : 'ipv6'
}

/** The address without zone, and an IPv4 address where IPv6 only wraps one; undefined for what is no address. */
export function normaliseAddress(text: string): string | undefined {
  const address = text.replace(/%.*$/, '')
  if (isIP(address) === 0) return undefined
  if (isIPv4(address)) return address
  const short = new URL(`http://[${address}]`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(short)
  if (mapped === null) return short
  const [high, low] = [parseInt(mapped[1] ?? '', 16), parseInt(mapped[2] ?? '', 16)]
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/** Whether a normalised address is one of the public internet. */
export function isPublic(address: string): boolean {
  return !notPublic.check(address, familyOf(address))
}

/** Whether a normalised address is the host itself by its loopback. */
export function isLoopback(address: string): boolean {
  return loopback.check(address, familyOf(address))
}
