/** An attempt and its session as spans: whose they are, and how they ended. */
import { NO_SPAN, type SpanFacts, type Tracer } from '../kernel/telemetry.js'
import type { LaunchStep } from '../launch/session.js'
import type { Outcome } from './outcome.js'
import type { SessionEnded } from './session-outcome.js'

interface SpannedJob {
  readonly id: string
  readonly attempt: number
  readonly fence: number
}

function factsOf(queue: string, { id, attempt, fence }: SpannedJob): SpanFacts {
  return { 'unstuck.queue': queue, 'unstuck.job.id': id, 'unstuck.attempt': attempt, 'unstuck.fence': fence }
}

export function spanAttempt(
  tracer: Tracer,
  queue: string,
  job: SpannedJob,
  run: (traceparent: string | undefined) => Promise<Outcome>,
): Promise<Outcome> {
  return tracer.span('unstuck.attempt', factsOf(queue, job), async (span) => {
    const outcome = await run(span.traceparent)
    span.set({ 'unstuck.outcome': outcome.kind })
    if (outcome.kind === 'handed_back') span.set({ 'unstuck.reason': outcome.reason })
    else if (outcome.kind !== 'success' && outcome.kind !== 'cancelled') span.fail(outcome.error.message)
    return outcome
  })
}

/** The span of a session, and within it that of its launch. */
export class SessionSpans {
  readonly #tracer: Tracer
  readonly #facts: SpanFacts
  #session = NO_SPAN
  #launch = NO_SPAN

  /** @param adopted it began under another supervisor, in a span of that one */
  constructor(tracer: Tracer, job: SpannedJob & { readonly queue: string }, adopted: boolean) {
    this.#tracer = tracer
    this.#facts = { ...factsOf(job.queue, job), ...(adopted ? { 'unstuck.session.adopted': true } : {}) }
  }

  /** What a session inherits. */
  get env(): { readonly TRACEPARENT?: string } {
    const { traceparent } = this.#session
    return traceparent === undefined ? {} : { TRACEPARENT: traceparent }
  }

  session(run: () => Promise<SessionEnded>): Promise<SessionEnded> {
    return this.#tracer.span('unstuck.session', this.#facts, async (span) => {
      this.#session = span
      const ended = await run()
      if (ended.ok === false) span.fail(ended.error.message)
      else if (ended.ok === 'lost' && 'message' in ended.loss) span.fail(ended.loss.message)
      return ended
    })
  }

  launch<T>(run: () => Promise<T>): Promise<T> {
    return this.#tracer.span('unstuck.launch', this.#facts, (span) => {
      this.#launch = span
      return run()
    })
  }

  step(step: LaunchStep): void {
    this.#launch.event(step)
  }

  refused(step: LaunchStep, error: Error): void {
    this.#launch.fail(`${step}: ${error.message}`)
  }
}
