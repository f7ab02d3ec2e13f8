/** Who has logged in. In memory only: a restart of the watchdog logs everybody out. */
import { createHash, randomBytes } from 'node:crypto'
import type { Clock } from '../kernel/clock.js'
import type { Rights } from './access.js'

export const SESSION_MS = 12 * 60 * 60_000
/** Above it the oldest is logged out. */
const MAX_SESSIONS = 1000

export class LoginSessions {
  readonly #clock: Pick<Clock, 'monotonicMs'>
  /** By the id's digest: what is looked up says nothing about an id. In the order of their end. */
  readonly #sessions = new Map<string, { readonly rights: Rights; readonly endsAt: number }>()

  constructor(clock: Pick<Clock, 'monotonicMs'>) {
    this.#clock = clock
  }

  /** @returns the id, for the cookie only */
  open(rights: Rights): string {
    this.#forget()
    const id = randomBytes(32).toString('base64url')
    this.#sessions.set(digest(id), { rights, endsAt: this.#clock.monotonicMs() + SESSION_MS })
    return id
  }

  find(id: string | undefined): Rights | undefined {
    const session = id === undefined ? undefined : this.#sessions.get(digest(id))
    return session && session.endsAt > this.#clock.monotonicMs() ? session.rights : undefined
  }

  close(id: string | undefined): void {
    if (id !== undefined) this.#sessions.delete(digest(id))
  }

  #forget(): void {
    const now = this.#clock.monotonicMs()
    for (const [key, { endsAt }] of this.#sessions) {
      if (endsAt > now && this.#sessions.size < MAX_SESSIONS) return
      this.#sessions.delete(key)
    }
  }
}

function digest(id: string): string {
  return createHash('sha256').update(id).digest('base64')
}
