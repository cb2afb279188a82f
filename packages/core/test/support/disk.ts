// File systems of a test's own, which can lose what was not synced, as a machine does that loses its power.
import { execFileSync } from 'node:child_process'
import { closeSync, ftruncateSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { until } from './state.js'

const IMAGE_BYTES = 512 << 20
// EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are one number; flag 2 (NOLOGFLUSH) drops the journal's unwritten part, too.
const SHUT_DOWN = `
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))`

export class Disk {
  private constructor(
    readonly image: string,
    readonly mountPoint: string,
  ) {}

  static make(kind: 'ext4' | 'xfs', image: string, mountPoint: string): Disk {
    const fd = openSync(image, 'wx')
    ftruncateSync(fd, IMAGE_BYTES)
    closeSync(fd)
    execFileSync(`mkfs.${kind}`, ['-q', image], { stdio: ['ignore', 'ignore', 'pipe'] })
    const disk = new Disk(image, mountPoint)
    disk.mount()
    return disk
  }

  /** Replays the journal, after a loss. */
  mount(): void {
    execFileSync('mount', ['-o', 'loop', this.image, this.mountPoint])
  }

  /** The same, once no namespace that is on its way out holds the file system as it was lost. */
  async mountAfterLoss(): Promise<void> {
    await until('the file system is there again', () => {
      this.mount()
      try {
        // What was lost can still be looked at, from memory; it takes nothing new.
        const probe = join(this.mountPoint, 'probe')
        writeFileSync(probe, '')
        rmSync(probe)
        return true
      } catch {
        execFileSync('umount', [this.mountPoint])
        return false
      }
    })
  }

  /** From this moment nothing reaches the image any more; what is only in memory is lost. */
  loseUnsynced(): void {
    execFileSync('python3', ['-c', SHUT_DOWN, this.mountPoint])
  }

  /** Once the last namespace that held it is gone. */
  async unmount(): Promise<void> {
    await until('the file system can be unmounted', () => {
      try {
        execFileSync('umount', [this.mountPoint], { stdio: 'ignore' })
        return true
      } catch {
        return false
      }
    })
  }
}
