/**
 * Answers that many ask for at the same time, read and written out once for all of them: two hundred pages that hear of
 * one incident must not cost the watch loop, which lives on the same event loop, two hundred readings.
 *
 * An answer is shared from the moment when its reading begins, and KEPT_MS later nobody gets it any more. It is given only
 * after Redis has shown a sign of life, so that no memory covers for a store that is away. An order forgets all of them:
 * whoever changed something sees it. Only for answers that are the same for everybody who may read.
 */
import { UserError } from '../kernel/errors.js'
import { TIMED_OUT, within } from '../kernel/within.js'

/** As old as an answer may be, milliseconds: what a person does not see, and below the watchdog's own rhythm. */
export const KEPT_MS = 250
/** Different questions at once; beyond them the oldest answer is forgotten. */
const MAX_KEPT = 100
/** How long Redis may take to show that it lives, milliseconds; with the longest reading still below the promised 2 s. */
const SIGN_WITHIN_MS = 600

export class SharedAnswers {
  readonly #signOfLife: () => Promise<unknown>
  readonly #kept = new Map<string, Promise<Buffer>>()
  #sign: Promise<void> | undefined

  /** @param signOfLife resolves when the store answers, and rejects when it is known to be away */
  constructor(signOfLife: () => Promise<unknown>) {
    this.#signOfLife = signOfLife
  }

  /**
   * @param question the same for all who may share the answer
   * @param read what to answer; called when nobody else's answer can be shared
   * @returns the answer as JSON
   * @throws what `read` does; UserError REDIS_UNREACHABLE where there is an answer and no sign of life
   */
  async of(question: string, read: () => Promise<object>): Promise<Buffer> {
    const kept = this.#kept.get(question)
    if (!kept) return this.#keep(question, read().then(jsonOf))
    const [answer] = await Promise.all([kept, this.#alive()])
    return answer
  }

  forget(): void {
    this.#kept.clear()
  }

  #keep(question: string, answer: Promise<Buffer>): Promise<Buffer> {
    const [oldest] = this.#kept.keys()
    if (oldest !== undefined && this.#kept.size >= MAX_KEPT) this.#kept.delete(oldest)
    this.#kept.set(question, answer)
    const forget = () => {
      if (this.#kept.get(question) === answer) this.#kept.delete(question)
    }
    setTimeout(forget, KEPT_MS).unref()
    answer.catch(forget)
    return answer
  }

  /** Many who ask at once put one question. */
  #alive(): Promise<void> {
    this.#sign ??= within(this.#signOfLife(), SIGN_WITHIN_MS)
      .catch(() => TIMED_OUT)
      .then((sign) => {
        if (sign === TIMED_OUT) throw new UserError('REDIS_UNREACHABLE', 'Redis did not answer in time; check Redis')
      })
      .finally(() => {
        this.#sign = undefined
      })
    return this.#sign
  }
}

const written = new WeakMap<object, Buffer>()

/**
 * An answer that is made of one thing alone, written out once as long as that thing is the same.
 * @param source what never changes once it is there
 */
export function writtenOnce(source: object, answer: () => object): Buffer {
  const known = written.get(source)
  if (known) return known
  const json = jsonOf(answer())
  written.set(source, json)
  return json
}

export function jsonOf(answer: object): Buffer {
  return Buffer.from(JSON.stringify(answer))
}
