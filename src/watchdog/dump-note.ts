/** What a line says of the stack dump that was taken when its subject got stuck, and the port through which it is asked for. Pure. */
export interface DumpNote {
  readonly dumpId: string
  /** The place in the job's own code: `fn (file:line)`. */
  readonly topFrame?: string
}

/** Where a stuck subject can be looked at. */
export type DumpPlace = 'main' | { readonly queue: string; readonly thread: number }

/** What is stuck, as far as asking needs it. */
export interface DumpWish {
  readonly incidentId: string
  readonly supervisor?: string
  readonly incarnation?: string
  readonly place?: DumpPlace
}

export interface DumpAsker {
  /** Asks for a dump, and waits a moment for it. @returns undefined when there is none in time; never rejects */
  ask(wish: DumpWish): Promise<DumpNote | undefined>
}

/** What came of asking for a dump. `refused`: the thread is gone, or too many were taken. `late`: it came, if at all, after the line. */
export const DUMP_OUTCOMES = ['taken', 'refused', 'late', 'failed'] as const
export type DumpOutcome = (typeof DUMP_OUTCOMES)[number]

/** Of those that open in one cycle so many are looked at: a hundred jobs of one thread pool are one trouble. */
export const MOST_IN_A_CYCLE = 20
