import { expect, test } from 'vitest'
import { BoundedText } from '../../src/commands/bounded-text.js'

test('never splits a character between two pieces', () => {
  const pieces: string[] = []
  const text = new BoundedText(100, (piece) => pieces.push(piece))
  const bytes = Buffer.from('a€😀z')
  for (const byte of bytes) void text.write(Buffer.of(byte))
  text.end()
  expect(pieces).toEqual(['a', '€', '😀', 'z'])
  expect(text.text).toBe('a€😀z')
  expect(text.truncated).toBe(false)
})

test('keeps the first bytes, says that it cut, and still passes everything on', () => {
  let all = ''
  const text = new BoundedText(5, (piece) => (all += piece))
  void text.write(Buffer.from('abc'))
  expect(text.truncated).toBe(false)
  void text.write(Buffer.from('d€f'))
  void text.write(Buffer.from('g'))
  text.end()
  expect(all).toBe('abcd€fg')
  expect(text.text).toBe('abcd')
  expect(text.truncated).toBe(true)
})

test('exactly the bound is not truncated, one more byte is; zero keeps nothing', () => {
  const exact = new BoundedText(3)
  void exact.write(Buffer.from('abc'))
  expect([exact.text, exact.truncated]).toEqual(['abc', false])
  void exact.write(Buffer.from('d'))
  expect([exact.text, exact.truncated]).toEqual(['abc', true])
  const none = new BoundedText(0)
  void none.write(Buffer.from('a'))
  expect([none.text, none.truncated]).toEqual(['', true])
})

test('bytes that are no UTF-8 become replacement characters, an incomplete end included', () => {
  const pieces: string[] = []
  const text = new BoundedText(100, (piece) => pieces.push(piece))
  void text.write(Buffer.from([0xff, 0x61, 0xe2, 0x82]))
  expect(text.text).toBe('\ufffda')
  text.end()
  text.end()
  expect(text.text).toBe('\ufffda\ufffd')
  expect(pieces.join('')).toBe('\ufffda\ufffd')
})
