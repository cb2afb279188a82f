import { lookup } from 'node:dns/promises'
import { connect, type Socket } from 'node:net'
import { networkInterfaces } from 'node:os'
import { normaliseAddress } from '../addresses.js'
import { allowsAddress, allowsName, normaliseName, type NetworkRule } from '../rules.js'

const CONNECT_TIMEOUT_MS = 20_000
/** A name may have many addresses; trying more of them would take longer than programs wait. */
const MAX_ADDRESSES = 6

/** Why a connection was not made. */
export class DialError extends Error {
  constructor(
    readonly reason: 'refused-by-rules' | 'not-resolved' | 'not-connected',
    message: string,
  ) {
    super(message)
  }
}

/** Makes connections to where the rules allow it. */
export type Dial = (host: string, port: number) => Promise<Socket>

/** @param onRefused hears of every connection that the rules forbid */
export function createDial(rules: readonly NetworkRule[], onRefused: (destination: string) => void): Dial {
  return async (host, port) => {
    const destination = `${host.includes(':') ? `[${host}]` : host}:${port}`
    const refuse = (why: string): DialError => {
      onRefused(destination)
      return new DialError('refused-by-rules', `${destination} ${why}`)
    }
    const literal = normaliseAddress(host)
    const name = literal === undefined ? normaliseName(host) : null
    if (name === undefined) throw refuse('is no host name')
    if (name !== null && !allowsName(rules, name, port)) {
      throw refuse('is not in the list of hosts that this sandbox may reach')
    }
    const addresses = literal === undefined ? await resolve(name ?? host) : [literal]
    const own = ownAddresses()
    const allowed = addresses.filter((address) => allowsAddress(rules, { name, address, port }, own))
    if (allowed.length === 0) {
      throw refuse(
        name === null
          ? 'is not in the list of addresses that this sandbox may reach'
          : `leads to ${addresses.join(', ')}, which is no public address; the list has to name the address too`,
      )
    }
    // The address that was judged is the one that is connected to: no second look-up in between.
    return connectToFirst(allowed.slice(0, MAX_ADDRESSES), port, destination)
  }
}

async function resolve(name: string): Promise<string[]> {
  try {
    const found = await lookup(name, { all: true, verbatim: true })
    return [...new Set(found.map(({ address }) => normaliseAddress(address)).filter((one) => one !== undefined))]
  } catch (error) {
    throw new DialError('not-resolved', `${name}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function ownAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((list) => list ?? [])
    .map(({ address }) => normaliseAddress(address))
    .filter((address) => address !== undefined)
}

async function connectToFirst(addresses: readonly string[], port: number, destination: string): Promise<Socket> {
  let last: unknown
  for (const address of addresses) {
    try {
      return await connectOnce(address, port)
    } catch (error) {
      last = error
    }
  }
  throw new DialError('not-connected', `${destination}: ${last instanceof Error ? last.message : String(last)}`)
}

function connectOnce(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true, noDelay: true })
    const fail = (error: Error): void => {
      clearTimeout(timer)
      socket.destroy()
      reject(error)
    }
    const timer = setTimeout(fail, CONNECT_TIMEOUT_MS, new Error(`no answer in ${CONNECT_TIMEOUT_MS} ms`))
    socket.once('error', fail)
    socket.once('connect', () => {
      clearTimeout(timer)
      socket.removeListener('error', fail)
      resolve(socket)
    })
  })
}
