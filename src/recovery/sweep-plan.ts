/**
 * How fast one queue's failed jobs are looked through. Pure. Whoever becomes responsible for a queue, or finds it compared
 * with other settings, goes through everything in big pages until one whole pass is done; from then on a small page of
 * each set a cycle keeps it true, at a cost that does not grow with the number of failed jobs.
 */

/** Where a pass is in each set; '' when it is through there. */
export interface SweepCursors {
  readonly failed: string
  readonly exhausted: string
  readonly permanent: string
}

/** What one page found. */
export interface SweptPage {
  /** 'done' for a set that is through. */
  readonly cursors: SweepCursors
  /** The pace let no more jobs go: what is left of the page comes in the next cycle. */
  readonly held: boolean
  /** The last whole pass was made for these settings. */
  readonly current: boolean
  /** Jobs reset because they failed under other settings. */
  readonly reset: number
}

const START: SweepCursors = { failed: '0', exhausted: '0', permanent: '0' }
const FAST_PAGE = 250
const SLOW_PAGE = 25
/** Big pages of one cycle. A page takes Redis a few milliseconds, in which it serves nobody else. */
const FAST_PAGES = 40

export class SweepPlan {
  #cursors = START
  #fast = true
  #pages = 0

  get cursors(): SweepCursors {
    return this.#cursors
  }

  get pageSize(): number {
    return this.#fast ? FAST_PAGE : SLOW_PAGE
  }

  /** From the start and fast: the queue was another's meanwhile. */
  startOver(): void {
    this.#cursors = START
    this.#fast = true
    this.#pages = 0
  }

  /** @returns 'more' to turn the next page at once, 'rest' until the next cycle, 'through' when a whole fast pass is done */
  turned(page: SweptPage): 'more' | 'rest' | 'through' {
    return this.#fast ? this.#turnedFast(page) : this.#turnedSlow(page)
  }

  #turnedFast({ cursors, held }: SweptPage): 'more' | 'rest' | 'through' {
    this.#cursors = replaceDone(cursors, '')
    if (Object.values(this.#cursors).every((cursor) => cursor === '')) {
      this.#cursors = START
      this.#fast = false
      this.#pages = 0
      return 'through'
    }
    this.#pages += 1
    if (!held && this.#pages < FAST_PAGES) return 'more'
    this.#pages = 0
    return 'rest'
  }

  #turnedSlow({ cursors, current }: SweptPage): 'rest' {
    if (current) this.#cursors = replaceDone(cursors, '0')
    else this.startOver()
    return 'rest'
  }
}

function replaceDone({ failed, exhausted, permanent }: SweepCursors, by: string): SweepCursors {
  const next = (cursor: string) => (cursor === 'done' ? by : cursor)
  return { failed: next(failed), exhausted: next(exhausted), permanent: next(permanent) }
}
