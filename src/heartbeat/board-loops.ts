/** The part of the board that belongs to loops: each is written by its own loop and read by the sentinel. */
import { LOOP_STATES } from './beat.js'
import type { LoopCells, LoopWriter } from './board-cells.js'
import { LOOP, PHASES } from './board-layout.js'
import type { BoardWords } from './board-words.js'

export class BoardLoops {
  readonly #words: BoardWords
  readonly #first: number
  readonly #ownPhases: () => readonly string[]

  /**
   * @param first where the cells of the first loop begin
   * @param ownPhases names beyond `PHASES`; they may grow
   */
  constructor(words: BoardWords, first: number, ownPhases: () => readonly string[]) {
    this.#words = words
    this.#first = first
    this.#ownPhases = ownPhases
  }

  #at(index: number): number {
    return this.#first + index * LOOP.size
  }

  /** The loop's own writing hand. @param index its place in `layout.loops` */
  writer(index: number): LoopWriter {
    const at = this.#at(index)
    return {
      state: (state) => this.#enterState(at, LOOP_STATES.indexOf(state)),
      started: (count = 1) => {
        const before = Atomics.add(this.#words.cells, at + LOOP.cycles, count)
        // 0 means "never", so the count steps over it when it has gone all the way round.
        if (((before + count) | 0) === 0) Atomics.add(this.#words.cells, at + LOOP.cycles, 1)
      },
      oldest: (inFlight, since, phase, limitMs) => this.#setOldest(at, inFlight, since, phase, limitMs),
      ended: () => {
        this.#words.set(at + LOOP.ended, this.#words.stamp())
        this.#words.set(at + LOOP.everEnded, 1)
      },
      skipped: () => {
        Atomics.add(this.#words.cells, at + LOOP.skipped, 1)
      },
      limitedFor: (ms) => this.#words.set(at + LOOP.limitedUntil, (this.#words.stamp() + Math.ceil(ms)) | 0),
    }
  }

  /** The place is given to another loop: it begins as if the board had just been made. */
  reset(index: number): void {
    const at = this.#at(index)
    for (let word = 0; word < LOOP.size; word += 1) this.#words.set(at + word, 0)
    this.#words.set(at + LOOP.stateSince, this.#words.stamp())
  }

  /** A phase without a word is shown as none. */
  #wordOf(phase: string): number {
    const known = (PHASES as readonly string[]).indexOf(phase)
    if (known >= 0) return known
    const own = this.#ownPhases().indexOf(phase)
    return own < 0 ? 0 : PHASES.length + own
  }

  #phaseOf(word: number): string {
    return PHASES[word] ?? this.#ownPhases()[word - PHASES.length] ?? ''
  }

  #enterState(at: number, state: number): void {
    if (this.#words.get(at + LOOP.state) === state) return
    this.#words.set(at + LOOP.stateSince, this.#words.stamp())
    this.#words.set(at + LOOP.state, state)
  }

  /**
   * A reader may look between any two of these stores. So what makes a call younger is written before what makes it
   * stricter (since before limit), `read` reads the other way round, and at rest the last call's cells stay.
   */
  #setOldest(at: number, inFlight: number, since: number, phase: string, limitMs: number): void {
    if (inFlight > 0) {
      this.#words.set(at + LOOP.since, since)
      this.#words.set(at + LOOP.phase, this.#wordOf(phase))
      this.#words.set(at + LOOP.limit, limitMs)
    }
    this.#words.set(at + LOOP.inFlight, inFlight)
  }

  read(index: number): LoopCells {
    const at = this.#at(index)
    const state = LOOP_STATES[this.#words.get(at + LOOP.state)] ?? 'starting'
    const inFlight = this.#words.get(at + LOOP.inFlight)
    const limitMs = this.#words.get(at + LOOP.limit)
    const everEnded = this.#words.get(at + LOOP.everEnded) === 1
    return {
      state,
      stateAgeMs: this.#words.age(this.#words.get(at + LOOP.stateSince)),
      cycles: this.#words.get(at + LOOP.cycles) >>> 0,
      skipped: this.#words.get(at + LOOP.skipped) >>> 0,
      inFlight,
      sinceAgeMs: this.#words.age(this.#words.get(at + LOOP.since)),
      endedAgeMs: everEnded ? this.#words.age(this.#words.get(at + LOOP.ended)) : undefined,
      phase: this.#phaseOf(this.#words.get(at + LOOP.phase)),
      limitMs,
      limitedForMs: (this.#words.get(at + LOOP.limitedUntil) - this.#words.stamp()) | 0,
    }
  }
}
