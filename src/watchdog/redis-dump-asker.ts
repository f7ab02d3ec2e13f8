/** Asks a supervisor's sentinel for the dump of a stuck subject. */
import type { Redis } from 'ioredis'
import { messageOf } from '../kernel/errors.js'
import type { FleetKeys } from '../platform/redis-keys.js'
import { askForDump } from '../stackdump/redis-dump-requests.js'
import { awaitAnswer } from '../stackdump/redis-dumps.js'
import type { DumpAsker, DumpOutcome } from './dump-note.js'

/**
 * A thread in native code takes 460 ms to be told, and such a dump that runs already is waited for; a line does not wait
 * longer than this for its own, milliseconds.
 */
const ANSWER_LIMIT_MS = 1000

export interface DumpAskerOptions {
  readonly redis: Redis
  readonly keys: FleetKeys
  /** What came of a request, for whoever counts. */
  readonly onAsked: (outcome: DumpOutcome) => void
  readonly onError: (message: string) => void
}

export function redisDumpAsker({ redis, keys, onAsked, onError }: DumpAskerOptions): DumpAsker {
  return {
    async ask({ incidentId, supervisor, incarnation, place }) {
      if (supervisor === undefined || incarnation === undefined || place === undefined) return undefined
      try {
        const order = { kind: 'dump', request: incidentId, targets: [place], incidentId } as const
        await askForDump(redis, keys, { supervisor, incarnation }, order)
        const answer = await awaitAnswer(redis, keys, incidentId, ANSWER_LIMIT_MS)
        const [dump] = answer?.dumps ?? []
        onAsked(dump ? 'taken' : answer ? 'refused' : 'late')
        return dump && { dumpId: dump.id, ...(dump.top === undefined ? {} : { topFrame: dump.top }) }
      } catch (error) {
        onAsked('failed')
        onError(`a stack dump of supervisor ${supervisor} could not be asked for: ${messageOf(error)}`)
        return undefined
      }
    },
  }
}
