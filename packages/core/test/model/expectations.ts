/**
 * What a sandbox's files can do, one switch per class of operations: a class that is off is neither drawn nor compared,
 * and has a row in docs/limits.md that says so.
 */
export const expectations = {
  /** Writable MAP_SHARED mappings of files. */
  sharedMappings: true,
  /** Read-only MAP_SHARED mappings: of a file in a lower layer they show what it was before its next change. */
  readonlyMappings: false,
  /** Files whose last name is removed while a descriptor is open. */
  deletedOpenFiles: true,
  /** Directories that are removed while a descriptor or the working directory is in them. */
  deletedDirectories: false,
  /** Descriptors and working directories whose path is longer than PATH_MAX. */
  longPathsHeld: false,
  /** flock, POSIX and OFD locks. */
  locks: true,
  /** rename(2) of directories that existed before the last checkpoint. */
  renameLowerDirectory: false,
  /** link(2). */
  hardLinks: false,
  /** st_nlink: a file that is open over a seal has one name more in a layer. */
  linkCounts: false,
  /** Directories that are read in part before a checkpoint and to their end after it. */
  directoryStreams: true,
  /** st_ino of everything stays over checkpoints and rollbacks. */
  inodeNumbers: false,
}

export type Expectations = Readonly<Record<keyof typeof expectations, boolean>>
