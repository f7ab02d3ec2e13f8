/**
 * Whose beats are read in a cycle. Pure. The cost of a cycle follows what is due or hinted at; a supervisor that is known
 * to be in trouble stays due all the time, and is read again only once an interval (a hint says when it moves).
 */
import type { Diagnosis } from './diagnosis.js'
import type { StoreLook } from './watch-store.js'

export class ReadingPlan {
  readonly #intervalMs: number
  readonly #hinted = new Set<string>()
  /** When a supervisor was read last, and whether it was in trouble then. */
  readonly #reads = new Map<string, { at: number; troubled: boolean }>()
  readonly #setAside = new Set<string>()

  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs
  }

  get hasHints(): boolean {
    return this.#hinted.size > 0
  }

  hint(supervisor: string): void {
    this.#hinted.add(supervisor)
  }

  /** Those that are due, in an open incident, or hinted at. @param now own monotonic clock, milliseconds */
  next(look: StoreLook, now: number): string[] {
    const names = new Set(look.due.keys())
    for (const { supervisor } of look.open) {
      if (supervisor !== undefined) names.add(supervisor)
    }
    for (const known of this.#reads.keys()) {
      if (!names.has(known)) this.#reads.delete(known)
    }
    for (const name of names) {
      const read = this.#reads.get(name)
      if (read?.troubled && now - read.at < this.#intervalMs) names.delete(name)
    }
    for (const name of this.#hinted) names.add(name)
    this.#hinted.clear()
    return [...names]
  }

  /** @returns what to say of records that cannot be read: each once, until it can be read again */
  examined(names: readonly string[], diagnosis: Diagnosis, now: number): string[] {
    const troubled = new Set(diagnosis.findings.map((finding) => finding.supervisor))
    for (const name of names) {
      this.#reads.set(name, { at: now, troubled: troubled.has(name) || diagnosis.setAside.has(name) })
    }
    for (const name of diagnosis.supervisors.keys()) this.#setAside.delete(name)
    const fresh = [...diagnosis.setAside].filter(([name]) => !this.#setAside.has(name))
    for (const [name] of fresh) this.#setAside.add(name)
    return fresh.map(([name, why]) => `supervisor:${name}: its record cannot be read and is set aside (${why})`)
  }
}
