import { readFileSync } from 'node:fs'

const HEADER = new URL('../../../native/src/base/fault.h', import.meta.url)

/** All points at which an engine can be made to die, from the one list that the engine is built with. */
export const FAULT_POINTS: readonly string[] = [
  ...readFileSync(HEADER, 'utf8').matchAll(/X\(k\w+, "([a-z-]+)"\)/g),
].map(([, name]) => name!)

/** Passed only where processes go to the disk. */
export const POINTS_OF_IMAGES: readonly string[] = ['pages-written', 'image-beside']

/** Makes engines that are started meanwhile die when they come to `fault` (`point` or `point:passes`). */
export async function withFault<Result>(fault: string | undefined, start: () => Promise<Result>): Promise<Result> {
  if (fault !== undefined) process.env['DELTABOX_FAULT'] = fault
  try {
    return await start()
  } finally {
    delete process.env['DELTABOX_FAULT']
  }
}
