/**
 * Watches over sessions that are no children of this process: an earlier supervisor started them, or tmux did. They are
 * looked at again and again, all of them by one timer.
 */
import { isEmptied, leaderIsAlive, signalGroup } from './child-process-id.js'
import { discardSecrets, readExit } from './child-session-folder.js'
import type { ProcessId, SessionEnd } from './session.js'

const LOOK_EVERY_MS = 500
/** What a command leaves behind may hold up its shim for so long after it, milliseconds. */
export const LINGER_MS = 1000
/** After KILL the kernel needs no longer, milliseconds. */
export const KILL_LIMIT_MS = 2000

interface Watched {
  readonly id: ProcessId
  readonly folder: string
  readonly gone: () => void
  /** When its exit code was seen first. */
  exitSeenAt: number | undefined
}

export class AttachedSessions {
  readonly #watched = new Set<Watched>()
  #timer: NodeJS.Timeout | undefined
  #looking = false

  /** Resolves when the leader is gone. Never rejects. */
  gone(id: ProcessId, folder: string): Promise<void> {
    return new Promise((resolve) => {
      const watched: Watched = { id, folder, gone: resolve, exitSeenAt: undefined }
      this.#watched.add(watched)
      this.#timer ??= setInterval(() => void this.#lookAtAll(), LOOK_EVERY_MS).unref()
      void this.#look(watched)
    })
  }

  async #lookAtAll(): Promise<void> {
    if (this.#looking) return
    this.#looking = true
    for (const watched of this.#watched) await this.#look(watched)
    this.#looking = false
  }

  async #look(watched: Watched): Promise<void> {
    // What cannot be seen now is looked at again.
    if (!(await leaderIsAlive(watched.id).catch(() => true))) return this.#drop(watched)
    if (watched.exitSeenAt === undefined) {
      if ((await readExit(watched.folder)) !== undefined) watched.exitSeenAt = performance.now()
    } else if (performance.now() - watched.exitSeenAt > LINGER_MS) {
      await signalGroup(watched.id, 'SIGKILL').catch(() => undefined)
    }
  }

  #drop(watched: Watched): void {
    this.#watched.delete(watched)
    if (this.#watched.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    watched.gone()
  }
}

/** Once its leader is gone: ends what is left of the group, and says how the session ended. Never rejects. */
export async function settle(id: ProcessId, folder: string, how: string): Promise<SessionEnd> {
  await signalGroup(id, 'SIGKILL').catch(() => undefined)
  const emptied = await isEmptied(id, KILL_LIMIT_MS).catch(() => false)
  // Only now: the runner may have written it after its leader was killed.
  const code = await readExit(folder)
  await discardSecrets(folder)
  if (code !== undefined) return { kind: 'exit', code }
  const rest = emptied ? '' : `; something of its process group ${id.pid} cannot be ended`
  return { kind: 'lost', message: `the session ended without an exit code${how}${rest}` }
}
