/**
 * One watchdog: it looks, diagnoses, decides and says. It owns the rhythm and the order of a cycle, and nothing else:
 * the rules are in `diagnosis.ts` and `health.ts`, the compare-and-set in the incident store.
 *
 *   look ─▶ (blind? only its own incident) ─▶ beats that are due ─▶ queues ─▶ diagnose ─▶ decide ─▶ compare-and-set ─▶ say
 *
 * A cycle runs every QUEUE_INTERVAL_MS, at once on a hint, and at the moment when the next supervisor falls due or the
 * trouble of a queue gets old enough; never two at a time. The look comes before everything else that is read, so evidence is always younger than the list of open
 * incidents that it is judged against. No error ends the loop, and no call to the store is waited for without a limit
 * (the connection has one); whether Redis answers at all is watched by a timer of its own.
 */
import { Observer, type Sight } from '../heartbeat/observer.js'
import type { QueueFacts } from '../heartbeat/queue-facts.js'
import type { SeenBeat } from '../heartbeat/seen-beat.js'
import type { Clock } from '../kernel/clock.js'
import { messageOf } from '../kernel/errors.js'
import { Service } from '../kernel/service.js'
import { type Diagnosis, diagnose } from './diagnosis.js'
import { type DumpAsker, type DumpNote, MOST_IN_A_CYCLE } from './dump-note.js'
import { type Decision, Health } from './health.js'
import type { Incident, IncidentDraft, Incidents, Transition } from './incident.js'
import { OutageVoice } from './outage-voice.js'
import { type QueueCondition, type QueueThresholds, QueueTracker } from './queue-tracker.js'
import { ReadingPlan } from './reading-plan.js'
import type { LineLog } from './report.js'
import { Speaker } from './speaker.js'
import type { Hints, StoreLook, WatchStore } from './watch-store.js'

/** Hints that come together are looked at together, milliseconds. */
const HINTS_TOGETHER_MS = 20
/** How often it is asked whether Redis is silent, and how late its line may come for that, milliseconds. */
const OUTAGE_TICK_MS = 100
/** Queues are looked at this often at least, so that their incidents come soon after their thresholds, milliseconds. */
const QUEUE_INTERVAL_MS = 150
/** Past the moment at which a deadline is met exactly, milliseconds: exactly at the threshold is fine. */
const JUST_PAST_MS = 2

/** What the loop tells whoever counts. */
export interface WatchTelemetry {
  cycleEnded(durationMs: number): void
  lineWritten(transition: Transition): void
  /** @param lateByMs how long after the threshold was passed the incident was opened */
  detected(lateByMs: number): void
}

export interface WatchLoopOptions {
  readonly watchdogId: string
  readonly clock: Clock
  readonly store: WatchStore
  readonly incidents: Incidents
  readonly queueFacts: { read(queues: readonly string[]): Promise<QueueFacts[]> }
  readonly hints: Hints
  /** Absent: nobody is asked for stack dumps. */
  readonly dumps?: DumpAsker
  readonly log: LineLog
  readonly telemetry: WatchTelemetry
  readonly newId: () => string
  /** heartbeat.timeoutMs, watchdog.intervalMs, watchdog.goneAfterMs, watchdog.redisUnreachableAfterMs */
  readonly timeoutMs: number
  readonly intervalMs: number
  readonly goneAfterMs: number
  readonly redisUnreachableAfterMs: number
  readonly queues: readonly string[]
  readonly thresholdsOf: (queue: string) => QueueThresholds
}

/** What this watchdog can say without asking the store. */
export interface WatchView {
  readonly sight: Sight
  /** The open redis_unreachable of this watchdog. */
  readonly outage: Incident | undefined
  /** Wall clock of the end of the last cycle that read the store, milliseconds; undefined before the first. */
  readonly lastCycleAt: number | undefined
}

export class WatchLoop extends Service {
  readonly #options: WatchLoopOptions
  readonly #observer: Observer
  readonly #health: Health
  readonly #tracker: QueueTracker
  readonly #outage: OutageVoice
  readonly #speaker: Speaker
  readonly #plan: ReadingPlan
  readonly #complaints = new Set<string>()
  #lastOpen: readonly Incident[] = []
  /** What was open when the store was last known to remember. */
  #lost: readonly Incident[] = []
  #sight: Sight = { judges: 'stated', reason: 'starting', clearForMs: 0, blindForMs: 0 }
  #lastCycleAt: number | undefined
  /** Lines of STUCK that wait for a dump, by incident. */
  readonly #untold = new Map<string, Promise<void>>()
  /** Subjects that were dumped in this cycle. */
  #lookedInto = 0
  #ripensInMs = Number.POSITIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  #wakeAt = Number.POSITIVE_INFINITY
  #outageTimer: NodeJS.Timeout | undefined
  #inFlight: Promise<void> | undefined

  constructor(options: WatchLoopOptions) {
    super()
    const { watchdogId, clock, incidents, log, telemetry, timeoutMs, goneAfterMs, newId } = options
    this.#options = options
    this.#plan = new ReadingPlan(options.intervalMs)
    this.#observer = new Observer({ timeoutMs })
    this.#health = new Health({ watchdogId, goneAfterMs, timeoutMs })
    this.#tracker = new QueueTracker(options.thresholdsOf)
    const onSaid = (transition: Transition) => telemetry.lineWritten(transition)
    this.#outage = new OutageVoice({
      watchdogId,
      clock,
      log,
      newId,
      thresholdMs: options.redisUnreachableAfterMs,
      onSaid,
    })
    this.#speaker = new Speaker({ watchdogId, clock, incidents, log, onSaid })
  }

  get view(): WatchView {
    return { sight: this.#sight, outage: this.#outage.incident, lastCycleAt: this.#lastCycleAt }
  }

  protected override onStart(): void {
    this.#outageTimer = setInterval(() => this.#outage.tick(), OUTAGE_TICK_MS)
    // Hints only make it faster; without them the next look finds the same.
    this.#options.hints.subscribe((supervisor) => this.#onHint(supervisor)).catch(() => undefined)
    this.#wakeIn(0)
  }

  protected override async onStop(): Promise<void> {
    clearInterval(this.#outageTimer)
    clearTimeout(this.#timer)
    await this.#options.hints.close().catch(() => undefined)
    await this.#inFlight
    await Promise.all(this.#untold.values())
    await this.#leave().catch(() => undefined)
  }

  #onHint(supervisor: string): void {
    this.#plan.hint(supervisor)
    this.#wakeIn(HINTS_TOGETHER_MS)
  }

  /** The earlier wish wins. */
  #wakeIn(ms: number): void {
    if (this.state === 'stopping' || this.state === 'stopped' || this.#inFlight) return
    const at = this.#options.clock.monotonicMs() + ms
    if (at >= this.#wakeAt) return
    clearTimeout(this.#timer)
    this.#wakeAt = at
    this.#timer = setTimeout(() => this.#wake(), ms)
  }

  #wake(): void {
    this.#wakeAt = Number.POSITIVE_INFINITY
    this.#inFlight = this.#guardedCycle().then((nextInMs) => {
      this.#inFlight = undefined
      const regular = Math.min(this.#options.intervalMs, QUEUE_INTERVAL_MS)
      this.#wakeIn(this.#plan.hasHints ? HINTS_TOGETHER_MS : Math.min(regular, nextInMs + JUST_PAST_MS))
    })
  }

  /** @returns milliseconds until the next moment that is known to need a cycle */
  async #guardedCycle(): Promise<number> {
    const { clock, telemetry } = this.#options
    const before = clock.monotonicMs()
    try {
      const nextInMs = await this.#cycle(before)
      this.#complaints.clear()
      return nextInMs
    } catch (error) {
      this.#complain(`watchdog cycle failed: ${messageOf(error)}`)
      return Number.POSITIVE_INFINITY
    } finally {
      telemetry.cycleEnded(clock.monotonicMs() - before)
    }
  }

  async #cycle(before: number): Promise<number> {
    const look = await this.#look(before)
    if (!look) return Number.POSITIVE_INFINITY
    const { clock } = this.#options
    const lookedAt = clock.monotonicMs()
    await this.#restoreLost(look)
    await this.#catchUp(look)
    const diagnosis = await this.#examine(look)
    const { redisNow, open, watchdogs } = look
    const decisions = this.#health.decide({
      sight: this.#sight,
      diagnosis,
      open,
      watchdogs,
      redisNow,
      now: clock.monotonicMs(),
    })
    await this.#act(decisions, look, lookedAt)
    this.#lastCycleAt = clock.now()
    return Math.min(look.nextDueInMs, this.#ripensInMs)
  }

  async #look(before: number): Promise<StoreLook | undefined> {
    const { store, clock } = this.#options
    try {
      const look = await store.look()
      const after = clock.monotonicMs()
      this.#sight = this.#observer.looked({
        redisNow: look.redisNow,
        epochBefore: look.epochBefore,
        epoch: look.epoch,
        before,
        after,
      })
      this.#outage.answered()
      return look
    } catch {
      // Said by redis_unreachable, if it lasts.
      this.#sight = this.#observer.failed(before, clock.monotonicMs())
      return undefined
    }
  }

  /** Incidents that the store lost with its memory are put back, so that each still ends, once. */
  async #restoreLost(look: StoreLook): Promise<void> {
    if (this.#sight.reason === 'memory_lost') {
      if (this.#lost.length > 0) await this.#options.incidents.restore(this.#lost)
    } else {
      this.#lost = look.open
    }
    this.#lastOpen = look.open
  }

  /** What an outage, or a watchdog that died, left behind. */
  async #catchUp(look: StoreLook): Promise<void> {
    const { incidents, store } = this.#options
    await this.#speaker.acknowledgeAgain()
    await this.#outage.recordIn(incidents)
    // Deadlines jump only with the store's clock, and then this watchdog is blind. Else they are just longer than ours.
    if (this.#sight.judges !== 'all' && look.fromTheFuture.length > 0) await store.pullIn(look.fromTheFuture, look.queues)
    // Not while blind: whoever wrote a line just before an outage comes first, to say that it did.
    if (look.overdueLines > 0 && this.#sight.judges !== 'none') await this.#speaker.sayUnsaid()
  }

  async #examine(look: StoreLook): Promise<Diagnosis> {
    const { store, clock, queueFacts, queues, timeoutMs, intervalMs } = this.#options
    const sight = this.#sight
    const judging = sight.judges !== 'none'
    if (!judging) this.#tracker.forget()
    const names = judging ? this.#plan.next(look, clock.monotonicMs()) : []
    const [beats, facts] = await Promise.all([
      store.readBeats(names),
      judging ? queueFacts.read([...new Set([...queues, ...look.queues])]) : [],
    ])
    const now = clock.monotonicMs()
    const measured = facts.map((one) => ({ facts: one, conditions: this.#tracker.observe(one, now) }))
    this.#ripensInMs = ripensInMs(measured.flatMap(({ conditions }) => conditions))
    const diagnosis = diagnose({
      sight,
      supervisors: beats.map((seen) => withDeadline(seen, look.due.get(seen.supervisor), timeoutMs)),
      queues: measured,
      watchdogs: look.watchdogs,
      watchdogLostAfterMs: Math.max(timeoutMs, 3 * intervalMs),
      open: look.open,
    })
    for (const complaint of this.#plan.examined(names, diagnosis, now)) this.#warn(complaint)
    return diagnosis
  }

  /** Ends come before beginnings: a subject has one open incident. */
  async #act(decisions: readonly Decision[], look: StoreLook, lookedAt: number): Promise<void> {
    const { incidents, store } = this.#options
    const closedAt = new Map<string, number>()
    this.#lookedInto = 0
    for (const decision of decisions) {
      if (decision.do === 'forget') await store.forget(decision.seen, look.queues)
      if (decision.do === 'forget-watchdog') await store.forgetWatchdog(decision.id)
    }
    await Promise.all(
      decisions.map(async (decision) => {
        if (decision.do === 'update') await incidents.update(decision.from, decision.to)
        if (decision.do !== 'close') return
        // Its STUCK line may still wait for its dump.
        await this.#untold.get(decision.incident.incidentId)
        const won = await this.#won(() => incidents.close(decision.incident, decision.outcome))
        for (const { seq } of won) closedAt.set(decision.incident.subject, seq)
        // A store that is flushed before the next look must not get back what has ended.
        if (won.length > 0) this.#lost = this.#lost.filter(({ incidentId }) => incidentId !== decision.incident.incidentId)
      }),
    )
    await Promise.all(
      decisions.map(async (decision) => {
        if (decision.do !== 'open') return
        const asOf = Math.max(look.seq, closedAt.get(decision.trouble.subject) ?? 0)
        const sinceLook = this.#options.clock.monotonicMs() - lookedAt
        const draft = this.#draft(decision, look.redisNow + sinceLook)
        const won = await this.#won(() => incidents.open(draft, asOf), this.#dumpsOf(draft))
        if (won.length === 0) return
        const { ageMs, thresholdMs } = decision.trouble
        this.#options.telemetry.detected(ageMs - thresholdMs + decision.observedAgoMs)
      }),
    )
  }

  async #won(
    change: () => Promise<readonly Transition[]>,
    note?: (incident: Incident) => Promise<DumpNote | undefined>,
  ): Promise<readonly Transition[]> {
    const before = this.#options.clock.monotonicMs()
    const transitions = await change()
    const [first] = transitions
    if (note && first) this.#sayLater(transitions, before, note(first.incident))
    else await this.#speaker.say(transitions, before)
    return transitions
  }

  /** The lines of others do not wait for this one's dump. */
  #sayLater(transitions: readonly Transition[], before: number, note: Promise<DumpNote | undefined>): void {
    const { incidentId } = transitions[0]?.incident ?? { incidentId: '' }
    const said = note
      .then((known) => this.#speaker.say(transitions, before, known))
      .catch((error: unknown) => this.#complain(messageOf(error)))
      .finally(() => this.#untold.delete(incidentId))
    this.#untold.set(incidentId, said)
  }

  /** What the stuck thread does, for the line; the incident keeps it. Undefined: it cannot be looked at. */
  #dumpsOf({ place }: IncidentDraft): ((incident: Incident) => Promise<DumpNote | undefined>) | undefined {
    const { dumps, incidents } = this.#options
    if (!dumps || !place || this.#lookedInto >= MOST_IN_A_CYCLE) return undefined
    this.#lookedInto += 1
    return async (incident) => {
      const note = await dumps.ask(incident)
      if (note) await incidents.note(incident, note).catch((error: unknown) => this.#complain(messageOf(error)))
      return note
    }
  }

  #draft({ trouble, observedAgoMs }: Extract<Decision, { do: 'open' }>, redisNow: number): IncidentDraft {
    const since = new Date(redisNow - trouble.ageMs - observedAgoMs).toISOString()
    return { ...trouble, incidentId: this.#options.newId(), since, watchdogId: this.#options.watchdogId, count: 1 }
  }

  /** Once, until a cycle ends well. */
  #complain(message: string): void {
    if (this.#complaints.has(message)) return
    this.#complaints.add(message)
    this.#warn(message)
  }

  #warn(message: string): void {
    this.#options.log.warn({ event: 'watchdog_trouble', watchdogId: this.#options.watchdogId }, message)
  }

  async #leave(): Promise<void> {
    const { store, incidents, watchdogId } = this.#options
    const own = this.#lastOpen.find(({ cause, subject }) => cause === 'watchdog_blind' && subject === `watchdog:${watchdogId}`)
    if (own) await this.#won(() => incidents.close(own, 'stopped'))
    await store.goodbye()
  }
}

/** Until the first trouble of a queue that is not old enough yet will be. */
function ripensInMs(conditions: readonly QueueCondition[]): number {
  const waits = conditions.map(({ heldMs, thresholdMs }) => thresholdMs - heldMs).filter((ms) => ms >= 0)
  return Math.min(Number.POSITIVE_INFINITY, ...waits)
}

/** A record that is gone while its deadline is still in the index: the index knows since when. */
function withDeadline(seen: SeenBeat, dueForMs: number | undefined, timeoutMs: number): SeenBeat {
  if (seen.incarnation !== undefined || dueForMs === undefined) return seen
  return { ...seen, overdueMs: dueForMs, ageMs: dueForMs + timeoutMs }
}
