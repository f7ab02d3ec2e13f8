/**
 * The files in a session's folder: what it is given, and what it says about itself.
 *
 *   input      the job's data, for standard input; gone when the session has ended
 *   log        what it wrote, the newest; log.old what it wrote before
 *   exit       the exit code and a newline, once the command has ended
 *   heartbeat  touched by the session
 */
import type { BigIntStats } from 'node:fs'
import { chmod, mkdir, open, readdir, readFile, rm, rmdir, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import type { SessionSigns, SessionSpec } from './session.js'

/** What lies there besides, when the session runs in tmux. */
export const TMUX_FILES = ['control', 'pane', 'pane-log'] as const
const FILES = ['input', 'log', 'log.old', 'exit', 'heartbeat', ...TMUX_FILES]
/** Of no more use once it has ended, and they hold the job's data or environment. */
const SECRETS = ['input', ...TMUX_FILES]

/** Makes the folder as a new session finds it, whatever an earlier one left there. */
export async function prepareFolder({ folder, input }: SessionSpec): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await Promise.all([chmod(folder, 0o700), removeFiles(folder, FILES)])
  const heartbeat = join(folder, 'heartbeat')
  await Promise.all([
    writeFile(join(folder, 'input'), input, { mode: 0o600 }),
    // Room for the code, taken now: the disk may be full by then.
    writeFile(join(folder, 'exit'), '\n\n\n\n', { mode: 0o600 }),
    // Untouched so far, which its time says.
    writeFile(heartbeat, '', { mode: 0o600 }).then(() => utimes(heartbeat, 0, 0)),
  ])
}

/** Takes back what `prepareFolder` did, and nothing else: there may be a workspace in it. */
export async function discardFiles(folder: string): Promise<void> {
  await removeFiles(folder, FILES).catch(() => undefined)
  await rmdir(folder).catch(() => undefined)
}

export async function discardSecrets(folder: string): Promise<void> {
  await removeFiles(folder, SECRETS).catch(() => undefined)
}

async function removeFiles(folder: string, names: readonly string[]): Promise<void> {
  const there = new Set(await readdir(folder))
  await Promise.all(names.filter((name) => there.has(name)).map((name) => rm(join(folder, name), { force: true })))
}

/** @returns the command's exit code, once it has one */
export async function readExit(folder: string): Promise<number | undefined> {
  const code = /^(\d{1,3})\n/.exec(await readFile(join(folder, 'exit'), 'latin1').catch(() => ''))?.[1]
  return code === undefined ? undefined : Number(code)
}

const statOf = (path: string): Promise<BigIntStats | undefined> => stat(path, { bigint: true }).catch(() => undefined)

/** Both are '' until there is a sign. */
export async function readSigns(folder: string): Promise<SessionSigns> {
  const [log, old, heartbeat] = await Promise.all([
    statOf(join(folder, 'log')),
    statOf(join(folder, 'log.old')),
    statOf(join(folder, 'heartbeat')),
  ])
  const size = log?.size ?? 0n
  const touched = heartbeat?.mtimeNs ?? 0n
  return {
    output: !old && size === 0n ? '' : `${old ? `${old.ino}/${old.mtimeNs}` : ''}:${size}`,
    touched: touched === 0n ? '' : String(touched),
  }
}

/** The end of the log as a text that a terminal or a page can show. At most so many bytes, from the start of a line. */
export async function readTail(folder: string, maxBytes: number): Promise<string> {
  // One more: whether the first line is whole shows in what is before it.
  const wanted = maxBytes + 1
  const log = await readEnd(join(folder, 'log'), wanted)
  const old = log.length < wanted ? await readEnd(join(folder, 'log.old'), wanted - log.length) : Buffer.alloc(0)
  return fitting(readable(wholeLines(Buffer.concat([old, log]), maxBytes).toString()), maxBytes)
}

async function readEnd(path: string, bytes: number): Promise<Buffer> {
  const file = await open(path).catch(() => undefined)
  if (!file) return Buffer.alloc(0)
  try {
    const { size } = await file.stat()
    const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(bytes, size)), { position: Math.max(0, size - bytes) })
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

const NEWLINE = 0x0a

/** The end of it; of a line that is longer than all that, its end. */
function wholeLines(bytes: Buffer, maxBytes: number): Buffer {
  if (bytes.length <= maxBytes) return bytes
  const start = bytes.length - maxBytes
  const line = bytes.indexOf(NEWLINE, start - 1) + 1
  return bytes.subarray(line > 0 && line < bytes.length ? line : characterFrom(bytes, start))
}

/** The first place from here at which a character of UTF-8 begins. */
function characterFrom(bytes: Buffer, start: number): number {
  for (let at = start; at < start + 4; at += 1) {
    if (((bytes[at] ?? 0) & 0xc0) !== 0x80) return at
  }
  return start
}

/** A carriage return begins a line too: progress bars write one over the other. */
function readable(text: string): string {
  return stripVTControlCharacters(text.replaceAll(/\r\n?/g, '\n')).replaceAll(/[^\P{Cc}\n\t]/gu, '')
}

/** What stands for bytes that were no text is longer than they were. */
function fitting(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text)
  return bytes.length <= maxBytes ? text : wholeLines(bytes, maxBytes).toString()
}
