import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** Programs that the image has: enough to look around and to change files. */
const PROGRAMS = ['bash', 'cat', 'ls', 'mkdir', 'rm', 'id', 'env', 'sleep', 'stat', 'chmod', 'mv']

/** Makes the directory of a small image: some of this machine's programs with the libraries that they need. */
export function makeImage(dir: string): void {
  for (const path of ['usr/bin', 'usr/lib', 'etc', 'var/lib', 'tmp', 'srv', 'proc', 'dev', 'sys']) {
    mkdirSync(join(dir, path), { recursive: true })
  }
  for (const [link, target] of [
    ['bin', 'usr/bin'],
    ['lib', 'usr/lib'],
    ['lib64', 'usr/lib64'],
  ] as const) {
    symlinkSync(target, join(dir, link))
  }
  mkdirSync(join(dir, 'usr/lib64'))
  for (const name of PROGRAMS) {
    const program = realpathSync(execFileSync('which', [name], { encoding: 'utf8' }).trim())
    copyFileSync(program, join(dir, 'usr/bin', name))
    for (const [, library = ''] of execFileSync('ldd', [program], { encoding: 'utf8' }).matchAll(/(\/\S+) \(0x/g)) {
      // The dynamic loader's name is in the program; the others are looked for in the loader's directories.
      const place = library.startsWith('/lib64/') ? `usr${library}` : `usr/lib/${library.split('/').at(-1) ?? ''}`
      mkdirSync(dirname(join(dir, place)), { recursive: true })
      copyFileSync(realpathSync(library), join(dir, place))
    }
  }
  symlinkSync('bash', join(dir, 'usr/bin/sh'))
  writeFileSync(join(dir, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/bash\n')
  writeFileSync(join(dir, 'etc/image-release'), 'NAME=tiny\n')
  writeFileSync(join(dir, 'etc/hostname'), 'the-builder\n')
  writeFileSync(join(dir, 'srv/data'), 'of the image\n')
  writeFileSync(join(dir, 'top-file'), 'at the top\n')
}
