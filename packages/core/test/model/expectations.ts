/**
 * What a sandbox's files can do, one switch per class of operations: a class that is off is neither drawn nor compared,
 * and has a row in docs/limits.md that says so.
 */
export const expectations = {
  /** Writable MAP_SHARED mappings of files. */
  sharedMappings: true,
  /**
   * Read-only MAP_SHARED mappings. Off: of a file in a lower layer they go on showing it as it was before its next
   * change, which copies it up (overlayfs' own doing; about one seed of three).
   */
  readonlyMappings: false,
  /** Files whose last name is removed while a descriptor is open. */
  deletedOpenFiles: true,
  /**
   * Directories that are removed while a descriptor or the working directory is in them. Off: nothing can be made again
   * without a name, so they stay on the parked overlay, and a rollback that switches their volume reports them
   * (`..` of one leads to what was there before).
   */
  deletedDirectories: false,
  /**
   * Descriptors and working directories whose path is longer than PATH_MAX. Off: no call opens them anew, so they stay on
   * the parked overlay with what was there, and a rollback for which a file is open for writing there makes all
   * processes again.
   */
  longPathsHeld: false,
  /** flock, POSIX and OFD locks. */
  locks: true,
  /**
   * rename(2) of directories that existed before the last checkpoint. Off: it is carried out in steps
   * (docs/decisions/0009), and working directories and descriptors of directories inside stay with the removed original.
   */
  renameLowerDirectory: false,
  /** link(2). Off: names of a file that nobody has open part at the first write after a seal (docs/decisions/0013). */
  hardLinks: false,
  /** st_nlink. Off: files of merged layers, and those that were open over a seal, have one name more in the store. */
  linkCounts: false,
  /** Directories that are read in part before a checkpoint and to their end after it. */
  directoryStreams: true,
  /**
   * st_ino of everything stays over checkpoints and rollbacks. Off: that of copied-up files and of merged directories is
   * another one once they are sealed, and so is that of what a rollback brings back.
   */
  inodeNumbers: false,
}

export type Expectations = Readonly<Record<keyof typeof expectations, boolean>>
