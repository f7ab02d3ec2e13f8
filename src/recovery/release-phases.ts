/**
 * What brings jobs of one queue back that are not running and not waiting, one phase after the other: bulk resets that
 * somebody ordered (a person, a restart, a breaker that closed), exhausted jobs whose cooldown is over, a probe for an
 * open breaker, and the sweep that holds our indexes to BullMQ's failed set. All of it goes by one pace, which is kept in
 * the store; a phase that the pace holds goes on in the next cycle. Orders come first: somebody waits for them.
 */
import type { ResetBy } from './reset-policy.js'
import type { SweepCursors, SweepPlan, SweptPage } from './sweep-plan.js'

export interface ReleasePort {
  /** Orders the resets that follow restarts. @param restarts group ('' for none) → number of its last restart */
  startRestarts(queue: string, restarts: ReadonlyMap<string, number>): Promise<number>
  /** One page of the oldest bulk reset. */
  workCampaign(
    queue: string,
  ): Promise<{ readonly state: 'idle' | 'held' | 'more'; readonly by: ResetBy | undefined; readonly reset: number }>
  releaseDue(queue: string): Promise<{ readonly reset: number; readonly more: boolean }>
  /** @returns how many parked jobs were called as probes */
  promoteProbes(queue: string): Promise<number>
  sweepPage(queue: string, cursors: SweepCursors, size: number): Promise<SweptPage>
  /** All failed jobs were compared with the settings now in force. */
  swept(queue: string): Promise<void>
}

export interface ReleaseOptions {
  readonly port: ReleasePort
  readonly queue: string
  readonly plan: SweepPlan
  readonly restarts: ReadonlyMap<string, number>
  readonly phase: (name: string) => void
  readonly onReset: (queue: string, by: ResetBy, count: number) => void
}

/** Calls of one phase in one cycle, of 200 jobs each: 2000 a second at the default interval. The store serves others between them. */
const MOST_CALLS = 50

export async function releaseJobs(options: ReleaseOptions): Promise<void> {
  const { phase } = options
  phase('campaigns')
  await workCampaigns(options)
  phase('release')
  await releaseDue(options)
  phase('probe')
  await options.port.promoteProbes(options.queue)
  phase('sweep')
  await sweep(options)
}

async function workCampaigns({ port, queue, restarts, onReset }: ReleaseOptions): Promise<void> {
  if (restarts.size > 0) await port.startRestarts(queue, restarts)
  const counts = new Map<ResetBy, number>()
  for (let calls = 0; calls < MOST_CALLS; calls++) {
    const { state, by, reset } = await port.workCampaign(queue)
    if (by) counts.set(by, (counts.get(by) ?? 0) + reset)
    if (state !== 'more') break
  }
  for (const [by, count] of counts) if (count > 0) onReset(queue, by, count)
}

async function releaseDue({ port, queue, onReset }: ReleaseOptions): Promise<void> {
  let released = 0
  for (let calls = 0; calls < MOST_CALLS; calls++) {
    const { reset, more } = await port.releaseDue(queue)
    released += reset
    if (!more) break
  }
  if (released > 0) onReset(queue, 'cooldown', released)
}

async function sweep({ port, queue, plan, onReset }: ReleaseOptions): Promise<void> {
  let reset = 0
  for (;;) {
    const page = await port.sweepPage(queue, plan.cursors, plan.pageSize)
    reset += page.reset
    const next = plan.turned(page)
    if (next === 'through') await port.swept(queue)
    if (next !== 'more') break
  }
  if (reset > 0) onReset(queue, 'settings', reset)
}
