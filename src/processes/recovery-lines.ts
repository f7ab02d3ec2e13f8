/** What the supervisor logs of attempts that ran out, came back, or met a breaker: a handful of lines, whatever the number. */
import type { Claim, LedgerEvents } from '../dispatch/ledger.js'
import { Bursts } from '../kernel/bursts.js'
import type { Logger } from '../platform/pino-logger.js'
import type { ResetBy } from '../recovery/reset-policy.js'

export interface RecoveryLines {
  ledger(queue: string): Omit<LedgerEvents, 'error'>
  /** @param jobIds the first of them */
  reset(queue: string, by: ResetBy, jobIds: readonly string[], count: number): void
  /** Says what is still being gathered. */
  flush(): void
}

interface Gathered {
  readonly event: string
  readonly queue: string
  readonly text: (jobs: string) => string
  readonly by?: ResetBy
  readonly jobIds: readonly string[]
}

/** Job ids in one line. */
const SHOWN_IDS = 20

/** @param onReset told of each reset that the ledger itself did */
export function recoveryLines(log: Logger, onReset: (queue: string, by: ResetBy, count: number) => void): RecoveryLines {
  const bursts = new Bursts<Gathered>({ say: (_kind, items, count) => sayGathered(log, items, count) })
  const gather = (what: Gathered, count = 1) => bursts.add(JSON.stringify([what.event, what.queue, what.by ?? '']), what, count)
  const reset = (queue: string, by: ResetBy, jobIds: readonly string[], count: number) => {
    onReset(queue, by, count)
    const text = (jobs: string) => `ATTEMPTS RESET ${jobs}: ${REASONS[by]}`
    gather({ event: 'attempts_reset', queue, by, jobIds, text }, count)
  }
  return {
    reset,
    flush: () => bursts.flush(),
    ledger: (queue) => ({
      exhausted: ({ id }: Claim, cooldownMs) => {
        const text = (jobs: string) => `ATTEMPTS EXHAUSTED ${jobs}: again in ${Math.round(cooldownMs / 1000)} s at the latest`
        gather({ event: 'attempts_exhausted', queue, jobIds: [id], text })
      },
      poison: ({ id }, message) =>
        log.error({ event: 'poison', queue, jobId: id }, `POISON job:${queue}/${id}: ran alone and did it again (${message})`),
      breakerOpened: (group, failures) =>
        log.warn(
          { event: 'breaker_open', queue, group, failures },
          `BREAKER OPEN queue:${queue}${groupText(group)}: ${failures} different jobs failed without a success between`,
        ),
      breakerClosed: (group) =>
        log.info(
          { event: 'breaker_closed', queue, group },
          `BREAKER CLOSED queue:${queue}${groupText(group)}: a job works again`,
        ),
      reset: ({ id }) => reset(queue, 'heartbeat', [id], 1),
    }),
  }
}

const REASONS: Record<ResetBy, string> = {
  cooldown: 'their cooldown is over',
  heartbeat: 'a heartbeat proves that the dispatch works',
  restart: 'a supervisor of their group came back',
  breaker: 'their breaker closed',
  settings: 'the settings of their queue changed',
  hand: 'by hand',
}

function sayGathered(log: Logger, items: readonly Gathered[], count: number): void {
  const [first] = items
  if (!first) return
  const { event, queue, by, text } = first
  const jobIds = items.flatMap((item) => item.jobIds).slice(0, SHOWN_IDS)
  const jobs = count === 1 ? `job:${queue}/${jobIds[0] ?? ''}` : `${count} jobs of ${queue}`
  const level = event === 'attempts_exhausted' ? 'warn' : 'info'
  log[level]({ event, queue, ...(by === undefined ? {} : { by }), count, jobIds }, text(jobs))
}

const groupText = (group: string): string => (group === '' ? '' : ` group ${group}`)
