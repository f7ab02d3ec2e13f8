/** From results to rows: what is compared with what, and which target each must reach. */
import { quantile } from './stats.mjs'

const whole = (value) => Math.round(value).toLocaleString('en-US').replaceAll(',', ' ')
const DETECTION_LATENESS_MS = 250
/** The fleet at which the targets are judged. */
export const LARGE_FLEET = 10_000
/** With less than this share of its beats on time the fleet, and not the watchdog, was late. */
const FLEET_KEPT_UP = 0.97

export function throughputRows({ many, few }) {
  return [
    ...groupRows(many, 'in flight: 100', ['raw', 'piscina', 'unstuck']),
    ...groupRows(few, 'in flight: 2', ['raw', 'piscina', 'sandbox-threads', 'sandbox-processes', 'unstuck']),
    ratioRow('100 in flight: unstuck against raw', many.unstuck, many.raw, 0.6),
    ratioRow('2 in flight: unstuck against sandboxed threads', few.unstuck, few['sandbox-threads'], 2),
    ratioRow('2 in flight: unstuck against sandboxed processes', few.unstuck, few['sandbox-processes'], 2),
  ]
}

const LABELS = {
  raw: '(a) raw BullMQ worker, in process',
  piscina: 'BullMQ + piscina, 2 threads, nothing else',
  'sandbox-threads': '(b) BullMQ sandboxed, worker threads',
  'sandbox-processes': '(c) BullMQ sandboxed, processes',
  unstuck: '(d) unstuck, 2 threads, all supervision on',
}

function groupRows(group, title, variants) {
  return variants.map((variant) => {
    const { jobsPerSecond, cpuMicros } = group[variant]
    return { what: `${title}: ${LABELS[variant]}`, value: `${whole(jobsPerSecond)} jobs/s, ${whole(cpuMicros)} µs CPU a job` }
  })
}

function ratioRow(what, own, peer, least) {
  const ratio = own.jobsPerSecond / peer.jobsPerSecond
  return { what, value: `${ratio.toFixed(2)} ×`, target: `≥ ${least} ×`, met: ratio >= least }
}

const percent = (value) => `${value >= 1 ? '+' : '−'}${Math.abs((value - 1) * 100).toFixed(1)} %`
const spread = ({ ratio, low, high }) => `${percent(ratio)} (${percent(low)} to ${percent(high)})`
const fromTo = (before, after) => `${before.toFixed(1)} → ${after.toFixed(1)} µs`

export function supervisionRows({ pairs, bareMicros, unstuckMicros, ...ratios }) {
  return [
    {
      what: '100 in flight: CPU a job without and with supervision',
      value: fromTo(bareMicros, unstuckMicros),
    },
    {
      what: `supervision, median of ${pairs} pairs (quartiles)`,
      value: spread(ratios),
      target: '≤ +3 %',
      met: ratios.ratio <= 1.03,
    },
  ]
}

export function attemptsRows({ pairs, withoutMicros, withMicros, ...ratios }) {
  return [
    {
      what: '100 in flight: CPU a job without and with the ledger of attempts',
      value: fromTo(withoutMicros, withMicros),
    },
    {
      what: `ledger, median of ${pairs} pairs (quartiles)`,
      value: spread(ratios),
      target: '≤ +3 %',
      met: ratios.ratio <= 1.03,
    },
  ]
}

export function watchRows({ plain, steps }) {
  // Of a no-op job of the plain worker, as the same run has measured it.
  const jobMicros = plain.whole.withoutMicros
  const share = (micros) => percent(1 + micros / jobMicros)
  const rows = (what, { whole, added }) => [
    {
      what: `${what}: CPU that its calls add to a job, median of ${added.pairs} pairs (quartiles)`,
      value: `${added.micros.toFixed(2)} µs, ${share(added.micros)} of ${jobMicros.toFixed(1)} µs (${share(added.low)} to ${share(added.high)})`,
      target: '≤ +2 %',
      met: added.micros <= 0.02 * jobMicros,
    },
    {
      what: `${what}: CPU a job seen at the process, median of ${whole.pairs} pairs (quartiles)`,
      value: `${fromTo(whole.withoutMicros, whole.withMicros)}, ${spread(whole)}`,
    },
  ]
  return [...rows('watchWorker, 100 in flight', plain), ...rows('the same with unstuck/handler loaded', steps)]
}

const RELEASE_TOLERANCE = 0.02
const RELEASE_GROWTH_MB = 10

export function recoveryRows({ jobs, idle, release }) {
  const { perSecond, least, most, idleMb, peakMb } = release
  const off = Math.max(perSecond - least, most - perSecond) / perSecond
  return [
    {
      what: `${whole(jobs)} exhausted: reconcile cycle with nothing due, Redis time`,
      value: `${idle.redisMs.toFixed(3)} ms`,
      target: '≤ 2 ms',
      met: idle.redisMs <= 2,
    },
    {
      what: `${whole(jobs)} exhausted, released at ${whole(perSecond)}/s: starts planned in each whole second`,
      value: `${whole(least)} to ${whole(most)}`,
      target: `${whole(perSecond)} ± ${RELEASE_TOLERANCE * 100} %`,
      met: off <= RELEASE_TOLERANCE,
    },
    {
      what: `${whole(jobs)} exhausted, released: RSS of the process that reconciles, before and at most`,
      value: `${whole(idleMb)} → ${whole(peakMb)} MB`,
      target: `≤ +${RELEASE_GROWTH_MB} MB`,
      met: peakMb - idleMb <= RELEASE_GROWTH_MB,
    },
    {
      what: `${whole(jobs)} exhausted, released: Redis time of a page, median and longest of ${release.calls}`,
      value: `${release.medianMs.toFixed(1)} and ${release.longestMs.toFixed(1)} ms`,
    },
  ]
}

const BATCH_SECONDS = 3
const LAUNCH_MS = 15
const SILENT_PERCENT = 2
const inMs = ({ p50, p99 }) => `p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`

export function sessionsRows({ batches, launch, live }) {
  return [...batches.flatMap(batchRows), ...launchRows(launch), ...liveRows(live)]
}

function batchRows({ concurrency, sessions, seconds, worstSeconds, firstSeconds, bareSeconds, rounds }) {
  const title = `${sessions} sessions of \`true\`, ${concurrency} at a time`
  return [
    {
      what: `${title}: first taken to last completed, median of ${rounds.length} (worst; the process's first)`,
      value: `${seconds.toFixed(2)} s (${worstSeconds.toFixed(2)}; ${firstSeconds.toFixed(2)})`,
      target: `≤ ${BATCH_SECONDS} s`,
      met: seconds <= BATCH_SECONDS,
    },
    {
      what: `${title}: against bare spawns of it`,
      value: `${(seconds / bareSeconds).toFixed(1)} × ${bareSeconds.toFixed(2)} s`,
    },
  ]
}

function launchRows({ count, launched, ended, bare }) {
  return [
    {
      what: `launch of a session: claimed to its command running (n = ${count})`,
      value: inMs(launched),
      target: `p50 ≤ ${LAUNCH_MS} ms`,
      met: launched.p50 <= LAUNCH_MS,
    },
    { what: 'the same command by a bare spawn: called to running', value: inMs(bare) },
    { what: 'end of a session: its command running to its job completed', value: inMs(ended) },
  ]
}

function liveRows({ sessions, idlePercent, busyPercent, costPercent, idleMb, busyMb }) {
  return [
    {
      what: `${sessions} live and silent sessions: supervisor CPU, without and with them`,
      value: `${idlePercent.toFixed(1)} → ${busyPercent.toFixed(1)} % of a core`,
    },
    {
      what: `${sessions} live and silent sessions: what they cost`,
      value: `${costPercent.toFixed(1)} % of a core`,
      target: `≤ ${SILENT_PERCENT} %`,
      met: costPercent <= SILENT_PERCENT,
    },
    {
      what: `${sessions} live and silent sessions: supervisor RSS, without and with them`,
      value: `${whole(idleMb)} → ${whole(busyMb)} MB`,
    },
  ]
}

/** Of a dump that is asked for, by its class, milliseconds. */
const READABLE_MS = { running: 100, awaiting: 100, parked: 100, native: 500 }

export function dumpsRows({ latencies, cost, noise, jobsPerSecond }) {
  const rounds = `median of ${cost.throughput.pairs} rounds (quartiles)`
  return [
    ...latencies.map(({ expected, size, samples, others, p50, p99 }) => ({
      what: `dump of a thread, ${expected}, one of ${size}: asked to readable (n = ${samples.length}${othersText(others)})`,
      value: inMs({ p50, p99 }),
      target: `p99 ≤ ${READABLE_MS[expected]} ms`,
      met: p99 <= READABLE_MS[expected] && Object.keys(others).length === 0,
    })),
    {
      what: '100 in flight: without and with stack dumps',
      value: `${whole(jobsPerSecond.without)} → ${whole(jobsPerSecond.with)} jobs/s`,
    },
    {
      what: `being able to dump, throughput, ${rounds}`,
      value: spread(cost.throughput),
      target: '≥ −1 %',
      met: cost.throughput.ratio >= 0.99,
    },
    { what: `being able to dump, CPU a job, ${rounds}`, value: spread(cost.cpu) },
    { what: `a build against a copy of itself, throughput, ${rounds}`, value: spread(noise.throughput) },
    { what: `a build against a copy of itself, CPU a job, ${rounds}`, value: spread(noise.cpu) },
  ]
}

/** Dumps of another class than what the thread did. */
function othersText(others) {
  return Object.entries(others)
    .map(([seen, count]) => `, ${count} ${seen}`)
    .join('')
}

/** Clients of the API may make a STUCK line so much later, and the watchdog so much larger. */
const CLIENTS_DELAY_MS = 250
const CLIENTS_GROWTH_MB = 20
/** With less than this share of its questions answered the load was not the one that is meant. */
const READS_KEPT_UP = 0.99

export function httpRows(result) {
  const { fleet, listeners, readsPerSecond, took, without, with: loaded, rss, missed, falseAlarms } = result
  const load = `${listeners} listeners and ${whole(readsPerSecond)} reads/s for ${took}`
  const wrong = missed + falseAlarms.length
  const lateness = ({ p50, p99 }) => `p50 ${whole(p50)} ms, p99 ${whole(p99)} ms`
  return [
    { what: `${fleet} beating: threshold to STUCK, without clients (n = ${without.count})`, value: lateness(without) },
    { what: `${fleet} beating: threshold to STUCK, ${load} (n = ${loaded.count})`, value: lateness(loaded) },
    {
      what: 'clients of the API: how much later is the p99 of the STUCK lines',
      value: `${loaded.p99 < without.p99 ? '−' : '+'}${whole(Math.abs(loaded.p99 - without.p99))} ms`,
      target: `≤ +${CLIENTS_DELAY_MS} ms`,
      met: loaded.p99 - without.p99 <= CLIENTS_DELAY_MS,
    },
    ...readRows(loaded, readsPerSecond, listeners),
    {
      what: 'clients of the API: RSS of the watchdog, at the start and at the end of their load (most)',
      value: `${whole(rss.startMb)} → ${whole(rss.endMb)} MB (${whole(rss.mostMb)})`,
      target: `≤ +${CLIENTS_GROWTH_MB} MB`,
      met: rss.endMb - rss.startMb <= CLIENTS_GROWTH_MB,
    },
    {
      what: 'clients of the API: CPU of the watchdog, without and with them; their own',
      value: `${whole(without.cpuPercent)} → ${whole(loaded.cpuPercent)} % of a core; ${whole(loaded.clientsCpuPercent)} %`,
    },
    {
      what: 'clients of the API: missing lines and false alarms',
      value: `${missed} and ${falseAlarms.length}`,
      target: '0',
      met: wrong === 0,
    },
  ]
}

function readRows({ reads, unserved, lost, leastHeard, count }, readsPerSecond, listeners) {
  const { path, p99 } = reads.kinds.reduce((slowest, kind) => (kind.p99 > slowest.p99 ? kind : slowest))
  return [
    {
      what: `clients of the API: reads answered with 200 (others: ${whole(unserved)})`,
      value: `${whole(reads.perSecond)}/s`,
      target: `${whole(readsPerSecond)}/s`,
      met: reads.perSecond >= readsPerSecond * READS_KEPT_UP,
    },
    {
      what: `clients of the API: from when a read was due to its answer (slowest: ${path}, p99 ${whole(p99)} ms)`,
      value: inMs(reads),
    },
    {
      what: `clients of the API: STUCK events that each of ${listeners} listeners heard; connections lost`,
      value: `${leastHeard} of ${count}; ${lost}`,
      target: 'all; 0',
      met: leastHeard === count && lost === 0,
    },
  ]
}

export function memoryRows({ idleMb, busyMb }) {
  return [
    { what: 'supervisor RSS, 2 threads, idle', value: `${whole(idleMb)} MB` },
    { what: 'supervisor RSS, 2 threads, 100 in flight', value: `${whole(busyMb)} MB` },
  ]
}

const SCRAPE_MS = 20

export function scrapeRows({ supervisors, loops, series, medianMs, p95Ms, cpuMs }) {
  const what = `a scrape of the watchdog, ${whole(supervisors)} supervisors with ${whole(loops)} loops, ${whole(series)} series`
  return [
    {
      what: `${what}: takes`,
      value: `${medianMs.toFixed(1)} ms, p95 ${p95Ms.toFixed(1)} ms`,
      target: `≤ ${SCRAPE_MS} ms`,
      met: medianMs <= SCRAPE_MS,
    },
    {
      what: `${what}: CPU of the watchdog`,
      value: `${cpuMs.toFixed(1)} ms`,
      target: `≤ ${SCRAPE_MS} ms`,
      met: cpuMs <= SCRAPE_MS,
    },
  ]
}

export function watchdogRows(fleet, cost) {
  const { cpuPercent, cyclesPerSecond, beatsPerSecond, redisMsPerCycle, rssMb, scrapeMs } = cost
  return [
    {
      what: `${whole(fleet)} beating: beats that Redis took (fewer: the machine was too busy to tell)`,
      value: `${whole(beatsPerSecond)} beats/s`,
      target: `≥ ${whole(fleet * FLEET_KEPT_UP)} beats/s`,
      met: beatsPerSecond >= fleet * FLEET_KEPT_UP,
    },
    {
      what: `${whole(fleet)} beating: watchdog CPU`,
      value: `${cpuPercent.toFixed(1)} % of a core, ${cyclesPerSecond.toFixed(1)} cycles/s`,
    },
    {
      what: `${whole(fleet)} beating: watchdog cycle with nothing due, Redis time`,
      value: `${redisMsPerCycle.toFixed(3)} ms`,
      target: '≤ 2 ms',
      met: redisMsPerCycle <= 2,
    },
    { what: `${whole(fleet)} beating: watchdog RSS`, value: `${whole(rssMb)} MB` },
    { what: `${whole(fleet)} beating: one scrape of /metrics takes`, value: `${whole(scrapeMs)} ms` },
  ]
}

export function detectionRows(fleet, { samples, missed, falseAlarms }) {
  const judged = fleet === LARGE_FLEET
  const rows = Object.keys(samples)
    .toSorted()
    .map((cause) => {
      const { thresholdMs, latencies } = samples[cause]
      const p99 = quantile(latencies, 0.99)
      const limit = thresholdMs + DETECTION_LATENESS_MS
      return {
        what: `${whole(fleet)} beating: cause to STUCK, ${cause} (n = ${latencies.length})`,
        value: `p50 ${whole(quantile(latencies, 0.5))} ms, p99 ${whole(p99)} ms`,
        target: judged ? `p99 ≤ ${whole(thresholdMs)} + ${DETECTION_LATENESS_MS} ms` : '',
        ...(judged ? { met: p99 <= limit } : {}),
      }
    })
  const wrong = missed + falseAlarms.length
  return [
    ...rows,
    {
      what: `${whole(fleet)} beating: missing lines and false alarms`,
      value: `${missed} and ${falseAlarms.length}`,
      target: '0',
      met: wrong === 0,
    },
  ]
}
