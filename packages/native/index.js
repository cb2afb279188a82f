// Loads the addon and names the engine's path. Importing this module touches nothing: macOS, Windows and arm64 can
// install and import the packages, and only `loadNative` fails there.
import { accessSync, constants } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const require = createRequire(import.meta.url)
const packageDir = dirname(fileURLToPath(import.meta.url))

class UnsupportedPlatformError extends Error {
  constructor(message, nextStep, cause) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'UnsupportedPlatformError'
    this.code = 'UNSUPPORTED_PLATFORM'
    this.nextStep = nextStep
  }
}

let loaded

export function loadNative() {
  if (loaded !== undefined) return loaded
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new UnsupportedPlatformError(
      `DeltaBox runs on linux x64; this is ${process.platform} ${process.arch}`,
      'run it on a Linux x86-64 machine, or inside a Linux x86-64 virtual machine',
    )
  }
  const nativeDir = process.env.DELTABOX_NATIVE_DIR || join(packageDir, 'build', 'release')
  const enginePath = join(nativeDir, 'deltabox-engine')
  const addonPath = join(nativeDir, 'deltabox_addon.node')
  const nextStep =
    'run `npm run build` in the repository, or point DELTABOX_NATIVE_DIR at a directory that holds the built files'
  let addon
  try {
    accessSync(addonPath, constants.R_OK)
    accessSync(enginePath, constants.X_OK)
    addon = require(addonPath)
  } catch (cause) {
    throw new UnsupportedPlatformError(
      `the native part of DeltaBox is missing or unusable: ${cause.message}`,
      nextStep,
      cause,
    )
  }
  loaded = { addon, enginePath }
  return loaded
}
