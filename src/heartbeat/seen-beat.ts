import type { Beat } from './beat.js'

/** One supervisor as the store knows it, judged by the store's clock at the moment of reading. */
export interface SeenBeat {
  readonly supervisor: string
  /** Undefined: the record is gone. */
  readonly incarnation: string | undefined
  readonly generation: number
  /** Milliseconds since the last beat arrived, by Redis TIME. */
  readonly ageMs: number
  /** Milliseconds past the moment at which silence means death; negative: still alive. */
  readonly overdueMs: number
  /** It said goodbye. */
  readonly bye: boolean
  /** Undefined before the first full beat, or when the record cannot be parsed (then `broken` names why). */
  readonly beat: Beat | undefined
  readonly broken: string | undefined
}
