/** Folders: what the file system's own calls leave out. */
import type { Dirent } from 'node:fs'
import { chmod, lstat, readdir, realpath, rm, rmdir, stat, statfs } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { hasCode } from '../kernel/errors.js'

/**
 * Removes a file, link or folder with all that is in it, also folders that their owner may not write: caches make such.
 * @throws when something of it stays; nothing there is nothing to do
 */
export async function removeTree(path: string): Promise<void> {
  try {
    await remove(path)
  } catch (error) {
    if (!hasCode(error, 'EACCES') && !hasCode(error, 'EPERM')) throw error
    await open(path)
    await remove(path)
  }
}

/** Again when it is not empty: something that was killed a moment ago may have written there. */
async function remove(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 3, retryDelay: 50 })
}

/** Follows no link. */
async function open(path: string): Promise<void> {
  if (!(await lstat(path)).isDirectory()) return
  await chmod(path, 0o700)
  const entries: Dirent[] = await readdir(path, { withFileTypes: true })
  for (const entry of entries) if (entry.isDirectory()) await open(join(path, entry.name))
}

/** From the inner to the outer one, as far as they are empty. */
export async function removeEmpty(inner: string, outer: string): Promise<void> {
  for (let path = inner; ; path = dirname(path)) {
    const removed = await rmdir(path).then(
      () => true,
      () => false,
    )
    if (!removed || path === outer || path === dirname(path)) return
  }
}

export async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** As git knows it: through no links but the last, of a path that need not exist. */
export async function realOf(path: string): Promise<string> {
  const parent = dirname(path)
  if (parent === path) return path
  return join(await realpath(parent).catch(() => realOf(parent)), basename(path))
}

/** Free on the disk of that folder; undefined when it cannot be told. */
export async function bytesLeft(path: string): Promise<number | undefined> {
  return statfs(path).then(
    ({ bavail, bsize }) => bavail * bsize,
    () => undefined,
  )
}
