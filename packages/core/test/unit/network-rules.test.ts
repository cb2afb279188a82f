import { expect, test } from 'vitest'
import { networkSchema } from '../../src/network/options.js'
import { isPublic, normaliseAddress } from '../../src/network/addresses.js'
import { directHosts } from '../../src/network/direct.js'
import { allowsAddress, allowsName, parseRule, type NetworkRule } from '../../src/network/rules.js'

function rules(...entries: string[]): NetworkRule[] {
  return entries.map((entry) => {
    const rule = parseRule(entry)
    if (rule === undefined) throw new Error(`not a rule: ${entry}`)
    return rule
  })
}

const OWN = ['198.51.100.7']
const reaches = (list: NetworkRule[], name: string | null, address: string, port = 443) =>
  allowsAddress(list, { name, address: normaliseAddress(address) ?? '', port }, OWN)

test.each([
  ['', 'a b', 'http://x', 'x:0', 'x:65536', 'x:', 'x:1:2', '*.', 'a.*.b', 'x/8', '10.0.0.0/33', '10.0.0.0/', '[x]:1'],
  ['-a.b', 'a..b', '[10.0.0.1]:1', '[::1', '::1/129', `${'a'.repeat(64)}.b`, 'x:443x', 'user@x', '**', '*x'],
])('what is no entry', (...texts) => {
  expect(texts.filter((text) => parseRule(text) !== undefined)).toEqual([])
})

test('a list has 256 entries at most', () => {
  const isTaken = (count: number) => networkSchema.safeParse({ allow: Array<string>(count).fill('a.example') }).success
  expect([isTaken(256), isTaken(257)]).toEqual([true, false])
})

test('names match whole, whatever their case, and at their port', () => {
  const list = rules('Registry.Example:443', 'any-port.example')
  expect(allowsName(list, 'registry.example', 443)).toBe(true)
  expect(allowsName(list, 'registry.example', 80)).toBe(false)
  expect(allowsName(list, 'registry.example.evil', 443)).toBe(false)
  expect(allowsName(list, 'x.registry.example', 443)).toBe(false)
  expect(allowsName(list, 'any-port.example', 1)).toBe(true)
})

test('a suffix matches below the domain and not the domain, nor names that only end alike', () => {
  const list = rules('*.example.org:443')
  expect(allowsName(list, 'a.example.org', 443)).toBe(true)
  expect(allowsName(list, 'a.b.example.org', 443)).toBe(true)
  expect(allowsName(list, 'example.org', 443)).toBe(false)
  expect(allowsName(list, 'evilexample.org', 443)).toBe(false)
})

test('a name opens public addresses only', () => {
  const list = rules('db.example:5432', '*:443')
  expect(reaches(list, 'db.example', '93.184.216.34', 5432)).toBe(true)
  for (const address of [
    '10.1.2.3',
    '127.0.0.1',
    '169.254.169.254',
    '192.168.1.1',
    '172.16.0.1',
    '100.64.1.1',
    '0.0.0.0',
  ]) {
    expect(reaches(list, 'db.example', address, 5432), address).toBe(false)
    expect(reaches(list, null, address), address).toBe(false)
  }
  for (const address of [
    '::1',
    '::',
    'fe80::1',
    'fd00::1',
    '::ffff:10.0.0.1',
    '64:ff9b::a00:1',
    '2002:a00:1::',
    'ff02::1',
  ]) {
    expect(reaches(list, 'db.example', address, 5432), address).toBe(false)
  }
  expect(reaches(list, 'db.example', '198.51.100.7', 5432), 'an address of the host itself').toBe(false)
})

test('an address or range opens what it names, by name and by number', () => {
  const list = rules('10.0.0.0/8:5432', 'db.example:5432', '[fd00::/8]:443', '192.168.1.1', '198.51.100.7:80')
  expect(reaches(list, null, '10.200.0.1', 5432)).toBe(true)
  expect(reaches(list, 'db.example', '10.200.0.1', 5432)).toBe(true)
  expect(reaches(list, null, '10.200.0.1', 5433)).toBe(false)
  expect(reaches(list, null, '11.0.0.1', 5432)).toBe(false)
  expect(reaches(list, null, 'fd12::1', 443)).toBe(true)
  expect(reaches(list, null, 'fd12::1', 80)).toBe(false)
  expect(reaches(list, null, '192.168.1.1', 22)).toBe(true)
  expect(reaches(list, null, '::ffff:192.168.1.1', 22)).toBe(true)
  expect(reaches(list, null, '198.51.100.7', 80)).toBe(true)
  expect(allowsName(list, 'other.example', 5432)).toBe(false)
})

test('public addresses need a rule too; a star opens them all', () => {
  expect(reaches(rules('a.example'), null, '93.184.216.34')).toBe(false)
  expect(reaches(rules('a.example'), 'b.example', '93.184.216.34')).toBe(false)
  expect(reaches(rules('*:443'), null, '93.184.216.34')).toBe(true)
  expect(reaches(rules('*:443'), 'b.example', '93.184.216.34', 80)).toBe(false)
})

test('localhost means the host itself only when it is named', () => {
  expect(reaches(rules('localhost:8080'), 'localhost', '127.0.0.1', 8080)).toBe(true)
  expect(reaches(rules('localhost:8080'), 'localhost', '::1', 8080)).toBe(true)
  expect(reaches(rules('localhost:8080'), 'localhost', '127.0.0.1', 8081)).toBe(false)
  expect(reaches(rules('localhost:8080'), 'localhost', '10.0.0.1', 8080)).toBe(false)
  expect(reaches(rules('*'), 'localhost', '127.0.0.1', 8080)).toBe(false)
  expect(reaches(rules('*.localhost', '*'), 'a.localhost', '127.0.0.1')).toBe(false)
})

test('addresses are told apart however they are written', () => {
  expect(normaliseAddress('::FFFF:127.0.0.1')).toBe('127.0.0.1')
  expect(normaliseAddress('::ffff:7f00:1')).toBe('127.0.0.1')
  expect(normaliseAddress('fe80::1%eth0')).toBe('fe80::1')
  expect(normaliseAddress('127.1')).toBeUndefined()
  expect(normaliseAddress('example.org')).toBeUndefined()
  expect(isPublic('8.8.8.8')).toBe(true)
  expect(isPublic('2606:4700::1')).toBe(true)
  // The deprecated IPv4-compatible form.
  expect(isPublic(normaliseAddress('::10.0.0.1') ?? '')).toBe(false)
})

test('plain names are reached directly, each once; wildcards, addresses and what is inside are not', () => {
  const entries = ['A.Example:443', 'a.example.', 'a.example:8080', 'b.example:22', 'a.example:443']
  expect(directHosts([...entries, '*', '*.c.example:1', '10.0.0.1:5', '10.0.0.0/8', '[::1]:7', 'localhost:9'])).toEqual(
    [
      { name: 'a.example', ports: [443, 80, 8080] },
      { name: 'b.example', ports: [22] },
    ],
  )
})
