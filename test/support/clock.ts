/** A wall clock that a test can set for one process. Its monotonic clock stays true. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { onTestFinished } from 'vitest'

const SOURCE = resolve(import.meta.dirname, '../fixtures/clock-shift.c')

export interface FakeClock {
  /** For the process whose clock it is. */
  readonly env: NodeJS.ProcessEnv
  /** @param seconds ahead of the true time; negative: behind */
  set(seconds: number): void
}

/** Compiles the preloaded library (about 0.1 s). */
export function fakeClock(): FakeClock {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-clock-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  const library = join(dir, 'clock-shift.so')
  execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, SOURCE])
  const file = join(dir, 'shift')
  const set = (seconds: number) => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigInt64LE(BigInt(seconds))
    // In place: the file is mapped by the process.
    writeFileSync(file, bytes, { flag: 'r+' })
  }
  writeFileSync(file, Buffer.alloc(8))
  return { set, env: { LD_PRELOAD: library, CLOCK_SHIFT_FILE: file } }
}
