/** A systemd that only takes notes: a program `systemd-notify` that stands first on PATH and writes down what it is told. */
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { onTestFinished } from 'vitest'
import { until } from './processes.js'

export interface FakeSystemd {
  /** For the service. */
  readonly env: NodeJS.ProcessEnv
  /** All that it was told, in order. */
  all(): string[]
  count(state: string): number
  /** Waits until it was told so, so many times in all. */
  told(state: string, times?: number): Promise<void>
  /** From now on the program ends with code 3. */
  refuse(): void
}

export function fakeSystemd(): FakeSystemd {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-systemd-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }))
  const notes = join(dir, 'notes')
  const program = join(dir, 'systemd-notify')
  const write = (text: string) => {
    writeFileSync(program, `#!/bin/sh\n${text}\n`)
    chmodSync(program, 0o755)
  }
  write(`echo "$*" >> '${notes}'`)
  const all = () => (existsSync(notes) ? readFileSync(notes, 'utf8').split('\n').filter(Boolean) : [])
  const count = (state: string) => all().filter((line) => line === state).length
  return {
    env: { PATH: `${dir}${delimiter}${process.env['PATH'] ?? ''}`, NOTIFY_SOCKET: join(dir, 'socket') },
    all,
    count,
    told: async (state, times = 1) => {
      await until(
        async () => count(state),
        (seen) => seen >= times,
      )
    },
    refuse: () => write('exit 3'),
  }
}
